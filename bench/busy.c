/*
 * Containers that are at work: one process in each cgroup, and another one that comes and goes.
 *
 *   busy BURN_MICROSECONDS DEVICE
 *
 * Each line of standard input up to an empty one is a container: the paths of the cgroup.procs files to join,
 * separated by tabs. Answers "ready" once all have joined. Each further line makes every container work once:
 * burn CPU, take one more page of memory, write one block to DEVICE past the page cache (unless it is empty),
 * start or end its second process; it is answered by "done". Each container has a network namespace of its own.
 * The end of standard input ends them all.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define BLOCK 4096
#define PAGES 4096

struct shared {
	atomic_int generation; /* counted up to make everyone work */
	atomic_int done;       /* how many have joined, or have done the work of this generation */
};

static struct shared *shared;
static long burn_microseconds;

static void wait_while(atomic_int *word, int value)
{
	while (atomic_load(word) == value)
		syscall(SYS_futex, word, FUTEX_WAIT, value, NULL, NULL, 0);
}

static void wake(atomic_int *word)
{
	syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

static void burn(void)
{
	struct timespec now;
	long start, elapsed;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	start = now.tv_sec * 1000000 + now.tv_nsec / 1000;
	do {
		clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
		elapsed = now.tv_sec * 1000000 + now.tv_nsec / 1000 - start;
	} while (elapsed < burn_microseconds);
}

/* A child that ends with its parent, also with one that ended before it could say so. */
static pid_t fork_bound(void)
{
	pid_t parent = getpid(), pid = fork();

	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(1);
	}
	return pid;
}

static pid_t start_second(void)
{
	pid_t pid = fork_bound();

	if (pid == 0) {
		for (;;)
			pause();
	}
	return pid;
}

static void contain(char *line, const char *device, int number)
{
	char *heap = mmap(NULL, PAGES * BLOCK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	void *block = NULL;
	pid_t second = 0;
	int disk = -1;

	if (nice(10) == -1) /* whatever else the machine does comes first */
		perror("nice");
	for (char *path = strtok(line, "\t\n"); path; path = strtok(NULL, "\t\n")) {
		int fd = open(path, O_WRONLY);

		if (fd < 0 || write(fd, "0", 1) != 1) {
			perror(path);
			_exit(1);
		}
		close(fd);
	}
	if (unshare(CLONE_NEWNET) < 0)
		perror("unshare");
	if (*device && posix_memalign(&block, BLOCK, BLOCK) == 0) {
		disk = open(device, O_WRONLY | O_DIRECT);
		memset(block, number, BLOCK);
	}
	for (int generation = 0;; generation++) {
		atomic_fetch_add(&shared->done, 1);
		wake(&shared->done);
		wait_while(&shared->generation, generation);
		burn();
		heap[(generation % PAGES) * BLOCK] = 1;
		if (disk >= 0 && pwrite(disk, block, BLOCK, (off_t)number * BLOCK) < 0)
			perror(device);
		if (second) {
			kill(second, SIGKILL);
			waitpid(second, NULL, 0);
			second = 0;
		} else {
			second = start_second();
		}
	}
}

static void wait_for(int number)
{
	int done;

	while ((done = atomic_load(&shared->done)) < number)
		wait_while(&shared->done, done);
}

int main(int argc, char **argv)
{
	char *line = NULL;
	size_t size = 0;
	int number = 0;

	if (argc != 3)
		return 2;
	burn_microseconds = atol(argv[1]);
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	while (getline(&line, &size, stdin) > 1) {
		pid_t pid = fork_bound();

		if (pid == 0) {
			/* The rest of the list is the parent's. */
			close(STDIN_FILENO);
			close(STDOUT_FILENO);
			contain(line, argv[2], number);
		}
		if (pid < 0)
			return 1;
		number++;
	}
	wait_for(number);
	printf("ready\n");
	fflush(stdout);
	while (getline(&line, &size, stdin) > 0) {
		atomic_store(&shared->done, 0);
		atomic_fetch_add(&shared->generation, 1);
		wake(&shared->generation);
		wait_for(number);
		printf("done\n");
		fflush(stdout);
	}
	return 0;
}
