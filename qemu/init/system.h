/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The i386 system calls that init uses, without a C library: `int 0x80`, number in eax, arguments in ebx, ecx, edx,
 * esi, edi (arch/x86/entry/syscalls/syscall_32.tbl).  Each returns a value, or a negative errno.
 */
#ifndef SYSTEM_H
#define SYSTEM_H

typedef unsigned int size;
typedef unsigned long long offset;

enum {
	SYS_EXIT = 1,
	SYS_FORK = 2,
	SYS_READ = 3,
	SYS_WRITE = 4,
	SYS_OPEN = 5,
	SYS_CLOSE = 6,
	SYS_UNLINK = 10,
	SYS_MOUNT = 21,
	SYS_PAUSE = 29,
	SYS_KILL = 37,
	SYS_MKDIR = 39,
	SYS_PIPE = 42,
	SYS_IOCTL = 54,
	SYS_SETPGID = 57,
	SYS_REBOOT = 88,
	SYS_OLD_MMAP = 90,
	SYS_MUNMAP = 91,
	SYS_FTRUNCATE = 93,
	SYS_WAIT4 = 114,
	SYS_UNAME = 122,
	SYS_MPROTECT = 125,
	SYS_MREMAP = 163,
	SYS_POLL = 168,
	SYS_PREAD64 = 180,
	SYS_GETDENTS64 = 220,
	SYS_FINIT_MODULE = 350,
};

enum { ENOENT = 2, EINTR = 4, ECHILD = 10, EAGAIN = 11, ENOMEM = 12, EBUSY = 16, EINVAL = 22, E2BIG = 7 };

enum { O_RDONLY = 0, O_WRONLY = 1, O_RDWR = 2, O_CREAT = 0100, O_NOCTTY = 0400, O_TRUNC = 01000, O_NONBLOCK = 04000 };

enum { POLLIN = 1, POLLOUT = 4, POLLHUP = 16 };

struct pollfd {
	int fd;
	short events;
	short revents;
};

static inline long call5(long number, long a, long b, long c, long d, long e)
{
	long result;

	__asm__ volatile("int $0x80"
			 : "=a"(result)
			 : "a"(number), "b"(a), "c"(b), "d"(c), "S"(d), "D"(e)
			 : "memory");
	return result;
}

#define call4(number, a, b, c, d) call5(number, (long)(a), (long)(b), (long)(c), (long)(d), 0)
#define call3(number, a, b, c) call4(number, a, b, c, 0)
#define call2(number, a, b) call3(number, a, b, 0)
#define call1(number, a) call2(number, a, 0)

static inline long sys_open(const char *path, int flags) { return call3(SYS_OPEN, path, flags, 0600); }
static inline long sys_close(int fd) { return call1(SYS_CLOSE, fd); }
static inline long sys_read(int fd, void *to, size bytes) { return call3(SYS_READ, fd, to, bytes); }
static inline long sys_write(int fd, const void *from, size bytes) { return call3(SYS_WRITE, fd, from, bytes); }
static inline long sys_fork(void) { return call1(SYS_FORK, 0); }
static inline long sys_kill(int pid, int signal) { return call2(SYS_KILL, pid, signal); }
static inline long sys_wait(int pid, int options) { return call4(SYS_WAIT4, pid, 0, options, 0); }

static inline long sys_poll(struct pollfd *fds, int count, int milliseconds)
{
	return call3(SYS_POLL, fds, count, milliseconds);
}

static inline long sys_pread(int fd, void *to, size bytes, offset at)
{
	return call5(SYS_PREAD64, fd, (long)to, bytes, (long)at, (long)(at >> 32));
}

static inline void sys_exit(int status)
{
	for (;;)
		call1(SYS_EXIT, status);
}

/* Not nanosleep: the one with 32-bit time may be configured away. */
static inline void pause_milliseconds(int milliseconds)
{
	sys_poll(0, 0, milliseconds);
}

#endif
