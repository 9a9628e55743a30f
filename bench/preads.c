/*
 * The least that reading cgroup files can cost: the sampler's own list of files, read the way the sampler reads
 * them, in a loop that does nothing else.
 *
 *   preads TICKS CLOCK
 *
 * measures with CLOCK, "cpu" or (where the CPU time of a process is too coarse) "wall", takes lines on standard input and answers each with one line:
 *
 *   file PLACE KEPT SETTING MANY PATH   one more file of the cgroup number PLACE; no answer
 *   open                                open what is kept            -> number of files
 *   read SEQUENCE                       one round, as tick SEQUENCE  -> nanoseconds, reads, failures
 *   changes                             read what is kept            -> the numbers of the files whose text is new
 *   clear                               forget the files             -> 0
 *
 * Kept files: pread from a descriptor that stays open. Settings: open, pread and close, for every TICKS-th cgroup
 * of a round. Files of many records are read until an answer leaves room for one more record.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct file {
	char *path;
	long place;
	int kept, setting, many, fd;
	uint64_t hash;
};

static struct file *files;
static size_t count, room;
static char buffer[1 << 16];
static long reads, failures;
static clockid_t measured = CLOCK_PROCESS_CPUTIME_ID;

static ssize_t read_to_end(int fd, int many)
{
	ssize_t length = 0, got;

	do {
		got = pread(fd, buffer + length, 4096, length);
		reads++;
		if (got < 0) {
			failures++;
			return 0;
		}
		length += got;
	} while ((got == 4096 || (many && got > 4096 - 256)) && length + 4096 <= (ssize_t)sizeof(buffer));
	return length;
}

static ssize_t read_file(struct file *file)
{
	ssize_t length = 0;
	int fd;

	if (file->kept)
		return read_to_end(file->fd, file->many);
	fd = open(file->path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		failures++;
		return 0;
	}
	length = read_to_end(fd, file->many);
	close(fd);
	return length;
}

static uint64_t hash(ssize_t length)
{
	uint64_t value = 14695981039346656037u; /* FNV-1a */

	for (ssize_t i = 0; i < length; i++)
		value = (value ^ (unsigned char)buffer[i]) * 1099511628211u;
	return value;
}

static long nanoseconds(void)
{
	struct timespec now;

	clock_gettime(measured, &now);
	return now.tv_sec * 1000000000L + now.tv_nsec;
}

static void add(const char *line)
{
	struct file file = {.fd = -1};
	int offset = 0;

	if (sscanf(line, "file %ld %d %d %d %n", &file.place, &file.kept, &file.setting, &file.many, &offset) < 4 ||
	    !offset)
		exit(2);
	if (count == room)
		files = realloc(files, (room = room ? 2 * room : 1024) * sizeof(*files));
	file.path = strdup(line + offset);
	files[count++] = file;
}

static void clear(void)
{
	for (size_t i = 0; i < count; i++) {
		if (files[i].fd >= 0)
			close(files[i].fd);
		free(files[i].path);
	}
	count = 0;
}

int main(int argc, char **argv)
{
	long ticks = argc > 1 ? atol(argv[1]) : 1;
	char *line = NULL;
	size_t size = 0;
	ssize_t length;

	if (argc > 2 && !strcmp(argv[2], "wall"))
		measured = CLOCK_MONOTONIC;
	while ((length = getline(&line, &size, stdin)) > 0) {
		if (line[length - 1] == '\n')
			line[length - 1] = 0;
		if (!strncmp(line, "file ", 5)) {
			add(line);
			continue;
		}
		if (!strcmp(line, "open")) {
			for (size_t i = 0; i < count; i++)
				if (files[i].kept)
					files[i].fd = open(files[i].path, O_RDONLY | O_CLOEXEC);
			printf("%zu", count);
		} else if (!strncmp(line, "read ", 5)) {
			long sequence = atol(line + 5), start = nanoseconds();

			reads = failures = 0;
			for (size_t i = 0; i < count; i++)
				if (!files[i].setting || (files[i].place + sequence) % ticks == 0)
					read_file(&files[i]);
			printf("%ld %ld %ld", nanoseconds() - start, reads, failures);
		} else if (!strcmp(line, "changes")) {
			for (size_t i = 0; i < count; i++) {
				uint64_t now;

				if (!files[i].kept)
					continue;
				now = hash(read_file(&files[i]));
				if (now != files[i].hash)
					printf("%zu ", i);
				files[i].hash = now;
			}
		} else if (!strcmp(line, "clear")) {
			clear();
			printf("0");
		} else {
			return 2;
		}
		printf("\n");
		fflush(stdout);
	}
	return 0;
}
