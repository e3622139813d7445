/* watch.c - preloaded into a host, it notes every call that could block a worker's loop.
 *
 * Watched is the first thread of each process that calls itself weft-worker-N, from its loop's
 * first epoll_wait() on; the descriptor of that call is the loop's own, and where it was called
 * from is where it is called from each time. A line goes to the file that WEFT_WATCH names for each
 * call that could wait elsewhere: epoll, poll or select with another timeout than 0; connect,
 * accept, read or write on a socket or pipe that blocks; a look-up of a name; a sleep; a wait for a
 * process, a disk or a lock of a file. The loop's own pause under load (loop/coalesce.h) is meant:
 * one of just that length before each of its waits, and called from where the loop is. What the
 * compiler or the C library makes of these calls is watched, too: __poll_chk() and its like,
 * sendfile64(). When the process ends, a line says how many calls were looked at. */
#include <arpa/inet.h>
#include <dlfcn.h>
#include <execinfo.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { FRAMES = 12, PAUSE_NS = 250000 };

static int report_fd = -1;   /* of the file that WEFT_WATCH names */
static pid_t watched;        /* this process, once its loop runs; the first thread has this id */
static int loop_fd = -1;     /* the loop's epoll descriptor */
static void *loop_site;      /* where the loop waits */
static unsigned long turns;  /* waits of the loop */
static unsigned long pauses; /* of the loop */
static unsigned long paused; /* `turns` at the last one, and one more */
static unsigned long looked; /* other calls that were looked at */

/* The function of the same name that would have been called without us. */
#define NEXT(function)                   \
    static __typeof__(&(function)) next; \
    if (next == NULL)                    \
    next = (__typeof__(&(function)))dlsym(RTLD_NEXT, #function)

static void __attribute__((constructor)) start(void)
{
    const char *path = getenv("WEFT_WATCH");

    if (path != NULL)
        report_fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
}

static void __attribute__((destructor)) end(void)
{
    if (watched != 0 && watched == getpid())
        dprintf(report_fd, "watched: turns=%lu calls=%lu pauses=%lu\n", turns, looked, pauses);
}

static bool is_watched(void)
{
    return watched != 0 && watched == getpid() && watched == gettid();
}

/* At each epoll_wait() as long as nothing is watched: is this the loop of a worker? */
static void look_for_loop(int fd, void *site)
{
    char name[16] = "";

    if (watched == getpid() || getpid() != gettid() || report_fd < 0)
        return;
    prctl(PR_GET_NAME, name);
    if (strncmp(name, "weft-worker", 11) != 0)
        return;
    watched = getpid();
    loop_fd = fd;
    loop_site = site;
}

static void report(const char *format, ...) __attribute__((format(printf, 1, 2)));

static void report(const char *format, ...)
{
    void *frames[FRAMES];
    char text[256];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    dprintf(report_fd, "blocks: %s\n", text);
    int count = backtrace(frames, FRAMES);
    if (count > 2)
        backtrace_symbols_fd(frames + 2, count - 2, report_fd);
}

/* A call that waits as long as it is told to. */
static void look_at_wait(const char *what, bool can_wait)
{
    if (!is_watched())
        return;
    looked++;
    if (can_wait)
        report("%s", what);
}

/* A call on a descriptor: only sockets and pipes can keep it waiting, unless they are told not
 * to. */
static void look_at_fd(const char *what, int fd, int flags)
{
    struct stat st;

    if (!is_watched() || fd < 0)
        return;
    looked++;
    if ((flags & MSG_DONTWAIT) != 0 || fstat(fd, &st) != 0)
        return;
    if (!S_ISSOCK(st.st_mode) && !S_ISFIFO(st.st_mode))
        return;
    if ((fcntl(fd, F_GETFL) & O_NONBLOCK) == 0)
        report("%s of descriptor %d", what, fd);
}

/* Is it the one wait that there should be? Another one on the same descriptor is not. */
static bool is_turn(int fd, void *site)
{
    look_for_loop(fd, site);
    if (!is_watched() || fd != loop_fd || site != loop_site)
        return false;
    turns++;
    return true;
}

int epoll_wait(int fd, struct epoll_event *events, int count, int timeout)
{
    NEXT(epoll_wait);
    if (!is_turn(fd, __builtin_return_address(0)))
        look_at_wait("epoll_wait", timeout != 0);
    return next(fd, events, count, timeout);
}

int epoll_pwait(int fd, struct epoll_event *events, int count, int timeout, const sigset_t *set)
{
    NEXT(epoll_pwait);
    look_at_wait("epoll_pwait", timeout != 0);
    return next(fd, events, count, timeout, set);
}

static bool is_long(const struct timespec *timeout)
{
    return timeout == NULL || timeout->tv_sec != 0 || timeout->tv_nsec != 0;
}

int epoll_pwait2(int fd, struct epoll_event *events, int count, const struct timespec *timeout,
                 const sigset_t *set)
{
    NEXT(epoll_pwait2);
    look_at_wait("epoll_pwait2", is_long(timeout));
    return next(fd, events, count, timeout, set);
}

int poll(struct pollfd *fds, nfds_t count, int timeout)
{
    NEXT(poll);
    look_at_wait("poll", timeout != 0);
    return next(fds, count, timeout);
}

int ppoll(struct pollfd *fds, nfds_t count, const struct timespec *timeout, const sigset_t *set)
{
    NEXT(ppoll);
    look_at_wait("ppoll", is_long(timeout));
    return next(fds, count, timeout, set);
}

/* What a compiler that fortifies makes of poll(): its callers know how large `fds` is. */
int __poll_chk(struct pollfd *fds, nfds_t count, int timeout, size_t size);

int __poll_chk(struct pollfd *fds, nfds_t count, int timeout, size_t size)
{
    NEXT(__poll_chk);
    look_at_wait("__poll_chk", timeout != 0);
    return next(fds, count, timeout, size);
}

int __ppoll_chk(struct pollfd *fds, nfds_t count, const struct timespec *timeout,
                const sigset_t *set, size_t size);

int __ppoll_chk(struct pollfd *fds, nfds_t count, const struct timespec *timeout,
                const sigset_t *set, size_t size)
{
    NEXT(__ppoll_chk);
    look_at_wait("__ppoll_chk", is_long(timeout));
    return next(fds, count, timeout, set, size);
}

int select(int count, fd_set *reads, fd_set *writes, fd_set *others, struct timeval *timeout)
{
    NEXT(select);
    look_at_wait("select", timeout == NULL || timeout->tv_sec != 0 || timeout->tv_usec != 0);
    return next(count, reads, writes, others, timeout);
}

int pselect(int count, fd_set *reads, fd_set *writes, fd_set *others,
            const struct timespec *timeout, const sigset_t *set)
{
    NEXT(pselect);
    look_at_wait("pselect", is_long(timeout));
    return next(count, reads, writes, others, timeout, set);
}

int connect(int fd, const struct sockaddr *address, socklen_t len)
{
    NEXT(connect);
    look_at_fd("connect", fd, 0);
    return next(fd, address, len);
}

int accept(int fd, struct sockaddr *address, socklen_t *len)
{
    NEXT(accept);
    look_at_fd("accept", fd, 0);
    return next(fd, address, len);
}

int accept4(int fd, struct sockaddr *address, socklen_t *len, int flags)
{
    NEXT(accept4);
    look_at_fd("accept4", fd, 0);
    return next(fd, address, len, flags);
}

ssize_t read(int fd, void *to, size_t size)
{
    NEXT(read);
    look_at_fd("read", fd, 0);
    return next(fd, to, size);
}

ssize_t __read_chk(int fd, void *to, size_t size, size_t room);

ssize_t __read_chk(int fd, void *to, size_t size, size_t room)
{
    NEXT(__read_chk);
    look_at_fd("__read_chk", fd, 0);
    return next(fd, to, size, room);
}

ssize_t readv(int fd, const struct iovec *parts, int count)
{
    NEXT(readv);
    look_at_fd("readv", fd, 0);
    return next(fd, parts, count);
}

ssize_t recv(int fd, void *to, size_t size, int flags)
{
    NEXT(recv);
    look_at_fd("recv", fd, flags);
    return next(fd, to, size, flags);
}

ssize_t __recv_chk(int fd, void *to, size_t size, size_t room, int flags);

ssize_t __recv_chk(int fd, void *to, size_t size, size_t room, int flags)
{
    NEXT(__recv_chk);
    look_at_fd("__recv_chk", fd, flags);
    return next(fd, to, size, room, flags);
}

ssize_t recvfrom(int fd, void *to, size_t size, int flags, struct sockaddr *from, socklen_t *len)
{
    NEXT(recvfrom);
    look_at_fd("recvfrom", fd, flags);
    return next(fd, to, size, flags, from, len);
}

ssize_t __recvfrom_chk(int fd, void *to, size_t size, size_t room, int flags, struct sockaddr *from,
                       socklen_t *len);

ssize_t __recvfrom_chk(int fd, void *to, size_t size, size_t room, int flags, struct sockaddr *from,
                       socklen_t *len)
{
    NEXT(__recvfrom_chk);
    look_at_fd("__recvfrom_chk", fd, flags);
    return next(fd, to, size, room, flags, from, len);
}

int recvmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags, struct timespec *timeout)
{
    NEXT(recvmmsg);
    look_at_fd("recvmmsg", fd, flags);
    return next(fd, messages, count, flags, timeout);
}

ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
    NEXT(recvmsg);
    look_at_fd("recvmsg", fd, flags);
    return next(fd, message, flags);
}

ssize_t write(int fd, const void *from, size_t size)
{
    NEXT(write);
    look_at_fd("write", fd, 0);
    return next(fd, from, size);
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    NEXT(writev);
    look_at_fd("writev", fd, 0);
    return next(fd, parts, count);
}

ssize_t send(int fd, const void *from, size_t size, int flags)
{
    NEXT(send);
    look_at_fd("send", fd, flags);
    return next(fd, from, size, flags);
}

ssize_t sendto(int fd, const void *from, size_t size, int flags, const struct sockaddr *to,
               socklen_t len)
{
    NEXT(sendto);
    look_at_fd("sendto", fd, flags);
    return next(fd, from, size, flags, to, len);
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    NEXT(sendmsg);
    look_at_fd("sendmsg", fd, flags);
    return next(fd, message, flags);
}

int sendmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags)
{
    NEXT(sendmmsg);
    look_at_fd("sendmmsg", fd, flags);
    return next(fd, messages, count, flags);
}

ssize_t sendfile(int to, int from, off_t *at, size_t size)
{
    NEXT(sendfile);
    look_at_fd("sendfile", to, 0);
    return next(to, from, at, size);
}

ssize_t sendfile64(int to, int from, off64_t *at, size_t size)
{
    NEXT(sendfile64);
    look_at_fd("sendfile64", to, 0);
    return next(to, from, at, size);
}

int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints,
                struct addrinfo **found)
{
    NEXT(getaddrinfo);
    look_at_wait("getaddrinfo", true);
    return next(name, service, hints, found);
}

struct hostent *gethostbyname(const char *name)
{
    NEXT(gethostbyname);
    look_at_wait("gethostbyname", true);
    return next(name);
}

struct hostent *gethostbyname2(const char *name, int family)
{
    NEXT(gethostbyname2);
    look_at_wait("gethostbyname2", true);
    return next(name, family);
}

int gethostbyname_r(const char *name, struct hostent *host, char *store, size_t size,
                    struct hostent **found, int *problem)
{
    NEXT(gethostbyname_r);
    look_at_wait("gethostbyname_r", true);
    return next(name, host, store, size, found, problem);
}

int gethostbyname2_r(const char *name, int family, struct hostent *host, char *store, size_t size,
                     struct hostent **found, int *problem)
{
    NEXT(gethostbyname2_r);
    look_at_wait("gethostbyname2_r", true);
    return next(name, family, host, store, size, found, problem);
}

struct hostent *gethostbyaddr(const void *address, socklen_t len, int family)
{
    NEXT(gethostbyaddr);
    look_at_wait("gethostbyaddr", true);
    return next(address, len, family);
}

int gethostbyaddr_r(const void *address, socklen_t len, int family, struct hostent *host,
                    char *store, size_t size, struct hostent **found, int *problem)
{
    NEXT(gethostbyaddr_r);
    look_at_wait("gethostbyaddr_r", true);
    return next(address, len, family, host, store, size, found, problem);
}

/* Numbers need nobody. */
int getnameinfo(const struct sockaddr *address, socklen_t len, char *host, socklen_t host_size,
                char *service, socklen_t service_size, int flags)
{
    NEXT(getnameinfo);
    look_at_wait("getnameinfo", host != NULL && (flags & NI_NUMERICHOST) == 0);
    return next(address, len, host, host_size, service, service_size, flags);
}

/* The loop's own, and the first since it waited last. */
static bool is_pause(const struct timespec *duration, void *site)
{
    Dl_info from, loop;

    if (!is_watched() || duration->tv_sec != 0 || duration->tv_nsec != PAUSE_NS ||
        paused == turns + 1 || dladdr(site, &from) == 0 || dladdr(loop_site, &loop) == 0 ||
        from.dli_fbase != loop.dli_fbase)
        return false;
    paused = turns + 1;
    pauses++;
    return true;
}

int nanosleep(const struct timespec *duration, struct timespec *left)
{
    NEXT(nanosleep);
    if (!is_pause(duration, __builtin_return_address(0)))
        look_at_wait("nanosleep", true);
    return next(duration, left);
}

int clock_nanosleep(clockid_t clock, int flags, const struct timespec *duration,
                    struct timespec *left)
{
    NEXT(clock_nanosleep);
    look_at_wait("clock_nanosleep", true);
    return next(clock, flags, duration, left);
}

int usleep(useconds_t duration)
{
    NEXT(usleep);
    look_at_wait("usleep", true);
    return next(duration);
}

unsigned sleep(unsigned duration)
{
    NEXT(sleep);
    look_at_wait("sleep", true);
    return next(duration);
}

pid_t waitpid(pid_t pid, int *status, int options)
{
    NEXT(waitpid);
    look_at_wait("waitpid", (options & WNOHANG) == 0);
    return next(pid, status, options);
}

int system(const char *command)
{
    NEXT(system);
    look_at_wait("system", true);
    return next(command);
}

int fsync(int fd)
{
    NEXT(fsync);
    look_at_wait("fsync", true);
    return next(fd);
}

int fdatasync(int fd)
{
    NEXT(fdatasync);
    look_at_wait("fdatasync", true);
    return next(fd);
}

int flock(int fd, int what)
{
    NEXT(flock);
    look_at_wait("flock", (what & LOCK_NB) == 0);
    return next(fd, what);
}
