/* server/filter.c - which system calls a worker may make.
 *
 * A call that is not allowed does not happen: the kernel sends SIGSYS instead (SCMP_ACT_TRAP). The
 * handler writes the line, and has the call return -EPERM.
 */
#include "server/filter.h"
#include "base/check.h"
#include "base/mem.h"
#include "server/report.h"
#include <errno.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <ucontext.h>
#include <unistd.h>

enum { NAMES_MAX = 1024, NAME_SIZE = 32 };

/* A name that this kernel or this machine does not have is left out. */
static const char *const allowed[] = {
    /* files */
    "_llseek", "access", "chdir", "chmod", "chown", "close", "close_range", "copy_file_range",
    "creat", "dup", "dup2", "dup3", "faccessat", "faccessat2", "fadvise64", "fallocate", "fchdir",
    "fchmod", "fchmodat", "fchown", "fchownat", "fcntl", "fcntl64", "fdatasync", "fgetxattr",
    "flock", "fstat", "fstat64", "fstatat64", "fstatfs", "fsync", "ftruncate", "futimesat",
    "getcwd", "getdents", "getdents64", "getxattr", "inotify_add_watch", "inotify_init",
    "inotify_init1", "inotify_rm_watch", "ioctl", "lgetxattr", "link", "linkat", "listxattr",
    "lseek", "lstat", "lstat64", "mkdir", "mkdirat", "newfstatat", "open", "openat", "openat2",
    "pipe", "pipe2", "pread64", "preadv", "preadv2", "pwrite64", "pwritev", "pwritev2", "read",
    "readahead", "readlink", "readlinkat", "readv", "rename", "renameat", "renameat2", "rmdir",
    "sendfile", "sendfile64", "splice", "stat", "stat64", "statfs", "statfs64", "statx", "symlink",
    "symlinkat", "sync_file_range", "tee", "truncate", "umask", "unlink", "unlinkat", "utime",
    "utimensat", "utimes", "vmsplice", "write", "writev",
    /* sockets, and waiting for them; socket() has rules of its own */
    "accept", "accept4", "bind", "connect", "epoll_create", "epoll_create1", "epoll_ctl",
    "epoll_ctl_old", "epoll_pwait", "epoll_pwait2", "epoll_wait", "eventfd", "eventfd2",
    "getpeername", "getsockname", "getsockopt", "listen", "poll", "ppoll", "pselect6", "recv",
    "recvfrom", "recvmmsg", "recvmsg", "select", "send", "sendmmsg", "sendmsg", "sendto",
    "setsockopt", "shutdown",
    /* memory */
    "brk", "madvise", "membarrier", "memfd_create", "mincore", "mlock", "mlock2", "mlockall",
    "mmap", "mmap2", "mprotect", "mremap", "msync", "munlock", "munlockall", "munmap", "pkey_alloc",
    "pkey_free", "pkey_mprotect",
    /* threads; clone() has a rule of its own */
    "arch_prctl", "exit", "exit_group", "futex", "futex_waitv", "get_mempolicy", "get_robust_list",
    "getcpu", "gettid", "rseq", "sched_get_priority_max", "sched_get_priority_min",
    "sched_getaffinity", "sched_getattr", "sched_getparam", "sched_getscheduler",
    "sched_rr_get_interval", "sched_setaffinity", "sched_yield", "set_robust_list",
    "set_tid_address", "setpriority", "getpriority",
    /* signals; those that are sent have rules of their own */
    "alarm", "pause", "restart_syscall", "rt_sigaction", "rt_sigpending", "rt_sigprocmask",
    "rt_sigreturn", "rt_sigsuspend", "rt_sigtimedwait", "sigaltstack", "signalfd", "signalfd4",
    "sigreturn",
    /* time */
    "clock_getres", "clock_gettime", "clock_nanosleep", "getitimer", "gettimeofday", "nanosleep",
    "setitimer", "time", "timer_create", "timer_delete", "timer_getoverrun", "timer_gettime",
    "timer_settime", "timerfd_create", "timerfd_gettime", "timerfd_settime", "times",
    /* about oneself */
    "capget", "getegid", "geteuid", "getgid", "getgroups", "getpgid", "getpgrp", "getpid",
    "getppid", "getrandom", "getresgid", "getresuid", "getrlimit", "getrusage", "getsid", "getuid",
    "prctl", "prlimit64", "setrlimit", "sysinfo", "ugetrlimit", "uname", "wait4", "waitid"};

static const int families[] = {AF_UNIX, AF_INET, AF_INET6, AF_NETLINK};

/* A signal handler is given nothing, so this must be global. Written before, never within, but for
 * the counts. */
static struct {
    char (*names)[NAME_SIZE];   /* by number, NAMES_MAX of them; "": there is none */
    uint32_t counts[NAMES_MAX]; /* how often it was refused */
} calls;

/* ---- in the handler ---- */

/* One that tries again and again is told at the first time, the second, the fourth, ... */
static bool is_to_be_told(int number)
{
    uint32_t count;

    if (number < 0 || number >= NAMES_MAX)
        return true;
    count = __atomic_add_fetch(&calls.counts[number], 1, __ATOMIC_RELAXED);
    return (count & (count - 1)) == 0;
}

static void put_call(struct report *line, int number)
{
    bool is_known = number >= 0 && number < NAMES_MAX && calls.names[number][0] != '\0';

    report_field(line, "call", is_known ? calls.names[number] : "unknown");
    report_key(line, "number");
    report_number(line, (uint64_t)number, 10, 1);
    if (number < 0 || number >= NAMES_MAX)
        return;
    report_key(line, "times");
    report_number(line, __atomic_load_n(&calls.counts[number], __ATOMIC_RELAXED), 10, 1);
}

static void set_result(void *context, long result)
{
#if defined(__x86_64__)
    ((ucontext_t *)context)->uc_mcontext.gregs[REG_RAX] = result;
#elif defined(__aarch64__)
    ((ucontext_t *)context)->uc_mcontext.regs[0] = (unsigned long long)result;
#endif
}

static void on_refused(int signal, siginfo_t *info, void *context)
{
    int saved = errno;
    struct report line;

    (void)signal;
    set_result(context, -EPERM);
    if (!is_to_be_told(info->si_syscall))
        return;
    report_begin(&line, "error");
    report_key(&line, "msg");
    report_quote(&line);
    report_put(&line, "a system call was refused by syscall_filter");
    report_quote(&line);
    put_call(&line, info->si_syscall);
    report_culprit(&line);
    report_end(&line);
    errno = saved;
}

/* ---- before ---- */

static uint32_t refusal(void)
{
#if defined(__x86_64__) || defined(__aarch64__)
    return SCMP_ACT_TRAP;
#else
    return SCMP_ACT_ERRNO(EPERM); /* where no handler can say what the call returns */
#endif
}

static void note_names(void)
{
    calls.names = mem_calloc(NAMES_MAX, sizeof *calls.names);
    for (int number = 0; number < NAMES_MAX; number++) {
        char *name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, number);

        if (name != NULL)
            snprintf(calls.names[number], sizeof calls.names[number], "%s", name);
        free(name);
    }
}

static bool catch_refusals(void)
{
    struct sigaction action = {.sa_sigaction = on_refused, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigset_t set;

    return sigemptyset(&action.sa_mask) == 0 && sigaction(SIGSYS, &action, NULL) == 0 &&
           sigemptyset(&set) == 0 && sigaddset(&set, SIGSYS) == 0 &&
           sigprocmask(SIG_UNBLOCK, &set, NULL) == 0;
}

bool filter_knows(struct span name)
{
    char text[NAME_SIZE];

    if (name.len == 0 || name.len >= sizeof text)
        return false;
    memcpy(text, name.ptr, name.len);
    text[name.len] = '\0';
    return seccomp_syscall_resolve_name(text) != __NR_SCMP_ERROR;
}

static int allow(scmp_filter_ctx filter, const char *name)
{
    int number = seccomp_syscall_resolve_name(name);

    /* A negative one is of another machine. */
    return number >= 0 ? seccomp_rule_add(filter, SCMP_ACT_ALLOW, number, 0) : 0;
}

/* Where an argument decides: `compare` is what must be so. */
static int allow_if(scmp_filter_ctx filter, int number, struct scmp_arg_cmp compare)
{
    return seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, number, 1, &compare);
}

/* A thread is fine, a process is not. What clone3() is asked for lies in memory, where no filter
 * can look: told that there is none, the C library takes clone(). For posix_spawn() and system() it
 * does so with all signals blocked, when SIGSYS would end the process: that is refused without a
 * word. */
static int allow_threads(scmp_filter_ctx filter)
{
    const int none = SCMP_ACT_ERRNO(ENOSYS), never = SCMP_ACT_ERRNO(EPERM);
    struct scmp_arg_cmp is_spawn = SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_VFORK, CLONE_VFORK);
    int failed =
        allow_if(filter, SCMP_SYS(clone), SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD));

    if (failed == 0)
        failed = seccomp_rule_add_array(filter, (uint32_t)never, SCMP_SYS(clone), 1, &is_spawn);
    return failed == 0 ? seccomp_rule_add(filter, (uint32_t)none, SCMP_SYS(clone3), 0) : failed;
}

/* To oneself alone, as abort() and pthread_kill() do. */
static int allow_signals(scmp_filter_ctx filter)
{
    const int numbers[] = {SCMP_SYS(kill), SCMP_SYS(tgkill), SCMP_SYS(rt_sigqueueinfo),
                           SCMP_SYS(rt_tgsigqueueinfo)};
    int failed = 0;

    for (size_t i = 0; failed == 0 && i < sizeof numbers / sizeof *numbers; i++)
        failed = allow_if(filter, numbers[i], SCMP_A0_32(SCMP_CMP_EQ, (uint32_t)getpid(), 0));
    return failed;
}

static int allow_sockets(scmp_filter_ctx filter)
{
    int failed = allow_if(filter, SCMP_SYS(socketpair), SCMP_A0_32(SCMP_CMP_EQ, AF_UNIX, 0));

    for (size_t i = 0; failed == 0 && i < sizeof families / sizeof *families; i++)
        failed =
            allow_if(filter, SCMP_SYS(socket), SCMP_A0_32(SCMP_CMP_EQ, (uint32_t)families[i], 0));
    return failed;
}

static int allow_more(scmp_filter_ctx filter, const char *at)
{
    int failed = 0;

    while (failed == 0 && *(at += strspn(at, " \t")) != '\0') {
        char name[NAME_SIZE];
        size_t len = strcspn(at, " \t");

        snprintf(name, sizeof name, "%.*s", (int)len, at);
        failed = allow(filter, name);
        at += len;
    }
    return failed;
}

static int fill(scmp_filter_ctx filter, const char *more)
{
    int failed = seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);

    /* A search instead of a walk through all of them: some hundred comparisons a call are saved. */
    (void)seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
    for (size_t i = 0; failed == 0 && i < sizeof allowed / sizeof *allowed; i++)
        failed = allow(filter, allowed[i]);
    if (failed == 0)
        failed = allow_threads(filter);
    if (failed == 0)
        failed = allow_signals(filter);
    if (failed == 0)
        failed = allow_sockets(filter);
    return failed == 0 ? allow_more(filter, more) : failed;
}

enum err filter_install(const char *more, char problem[FILTER_PROBLEM_SIZE])
{
    scmp_filter_ctx filter = seccomp_init(refusal());
    int failed = filter != NULL ? fill(filter, more) : -ENOMEM;

    note_names();
    if (failed == 0 && !catch_refusals())
        failed = -errno;
    if (failed == 0)
        failed = seccomp_load(filter);
    seccomp_release(filter);
    if (failed == 0)
        return ERR_OK;
    snprintf(problem, FILTER_PROBLEM_SIZE, "[server] syscall_filter: cannot be set up: %s",
             strerror(-failed));
    return ERR_IO;
}
