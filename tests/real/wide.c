/* For User Mode Linux on processors with AMX, by LD_PRELOAD.
 *
 * It has room for 2,696 bytes of a process' registers, all that AVX-512 needs. With AMX the kernel has 11,008
 * bytes, gives the beginning of them, and takes back all or nothing (EFAULT). So the beginning is put into all.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>

typedef long (*ptrace_function)(enum __ptrace_request, pid_t, void *, void *);

static char whole[1 << 16] __attribute__((aligned(64))); /* its stacks have no room for it; it has one thread */

long ptrace(enum __ptrace_request request, ...)
{
    static ptrace_function next;
    va_list arguments;
    va_start(arguments, request);
    pid_t pid = va_arg(arguments, pid_t);
    void *address = va_arg(arguments, void *);
    void *data = va_arg(arguments, void *);
    va_end(arguments);
    if (!next)
        next = (ptrace_function)dlsym(RTLD_NEXT, "ptrace");
    if (request == PTRACE_SETREGSET && address == (void *)NT_X86_XSTATE) {
        struct iovec *part = data, all = {whole, sizeof whole};
        long failed = next(PTRACE_GETREGSET, pid, address, &all);
        if (failed)
            return failed;
        memcpy(whole, part->iov_base, part->iov_len < all.iov_len ? part->iov_len : all.iov_len);
        return next(request, pid, address, &all);
    }
    return next(request, pid, address, data);
}
