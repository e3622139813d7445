/* blocks.c - a plugin for the system tests: what no handler may do. GET /blocks/:how calls the
 * function of that name so that it could block the loop, for a moment at most; GET /blocks tells
 * the names, one a line. */
#include "weft.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* What a compiler that fortifies calls: of the C library's binary interface, in no header. */
int __poll_chk(struct pollfd *fds, nfds_t count, int timeout, size_t size);
int __ppoll_chk(struct pollfd *fds, nfds_t count, const struct timespec *timeout,
                const sigset_t *set, size_t size);
ssize_t __read_chk(int fd, void *to, size_t size, size_t room);
ssize_t __recv_chk(int fd, void *to, size_t size, size_t room, int flags);
ssize_t __recvfrom_chk(int fd, void *to, size_t size, size_t room, int flags, struct sockaddr *from,
                       socklen_t *len);

static const struct timespec moment = {.tv_nsec = 1000000};

/* Both ends block, and each has a byte to be read. */
struct ends {
    int fd, other;
};

static struct ends make_ends(void)
{
    int ends[2] = {-1, -1};

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0) {
        (void)!send(ends[0], "x", 1, MSG_DONTWAIT);
        (void)!send(ends[1], "x", 1, MSG_DONTWAIT);
    }
    return (struct ends){ends[0], ends[1]};
}

/* ---- waits ---- */

static void wait_epoll(int how)
{
    int fd = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event;

    if (how == 0)
        (void)epoll_wait(fd, &event, 1, 1);
    else if (how == 1)
        (void)epoll_pwait(fd, &event, 1, 1, NULL);
    else
        (void)epoll_pwait2(fd, &event, 1, &moment, NULL);
    close(fd);
}

static void in_epoll_wait(void)
{
    wait_epoll(0);
}
static void in_epoll_pwait(void)
{
    wait_epoll(1);
}
static void in_epoll_pwait2(void)
{
    wait_epoll(2);
}
static void in_poll(void)
{
    (void)poll(NULL, 0, 1);
}
static void in_ppoll(void)
{
    (void)ppoll(NULL, 0, &moment, NULL);
}
static void in_poll_chk(void)
{
    (void)__poll_chk(NULL, 0, 1, 0);
}
static void in_ppoll_chk(void)
{
    (void)__ppoll_chk(NULL, 0, &moment, NULL, 0);
}

static void in_select(void)
{
    (void)select(0, NULL, NULL, NULL, &(struct timeval){.tv_usec = 1000});
}

static void in_pselect(void)
{
    (void)pselect(0, NULL, NULL, NULL, &moment, NULL);
}

/* The loop's own descriptor, but not where the loop waits. */
static void in_nested_epoll_wait(void)
{
    char path[64], name[64];
    struct epoll_event event;

    for (int fd = 0; fd < 256; fd++) {
        (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        ssize_t len = readlink(path, name, sizeof name - 1);
        if (len > 0 && (name[len] = '\0', strcmp(name, "anon_inode:[eventpoll]") == 0))
            (void)epoll_wait(fd, &event, 1, 1);
    }
}

/* ---- sockets ---- */

static void in_connect(void)
{
    struct sockaddr_in nobody = {.sin_family = AF_INET, .sin_port = htons(1)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    nobody.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    (void)!connect(fd, (const struct sockaddr *)&nobody, sizeof nobody);
    close(fd);
}

/* Somebody has connected: it does not wait. */
static void accept_one(bool is_accept4)
{
    struct sockaddr_in self = {.sin_family = AF_INET};
    socklen_t len = sizeof self;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), accepted;
    int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    self.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(fd, (const struct sockaddr *)&self, len) == 0 && listen(fd, 1) == 0 &&
        getsockname(fd, (struct sockaddr *)&self, &len) == 0) {
        (void)!connect(client, (const struct sockaddr *)&self, len);
        accepted = is_accept4 ? accept4(fd, NULL, NULL, SOCK_CLOEXEC) : accept(fd, NULL, NULL);
        close(accepted);
    }
    close(client);
    close(fd);
}

static void in_accept(void)
{
    accept_one(false);
}
static void in_accept4(void)
{
    accept_one(true);
}

enum way {
    READ,
    READ_CHK,
    READV,
    RECV,
    RECV_CHK,
    RECVFROM,
    RECVFROM_CHK,
    RECVMSG,
    RECVMMSG,
    WRITE,
    WRITEV,
    SEND,
    SENDTO,
    SENDMSG,
    SENDMMSG
};

static void transfer(enum way way)
{
    struct ends ends = make_ends();
    char byte = 'x';
    struct iovec part = {&byte, 1};
    struct mmsghdr message = {.msg_hdr = {.msg_iov = &part, .msg_iovlen = 1}};

    switch (way) {
    case READ:
        (void)!read(ends.fd, &byte, 1);
        break;
    case READ_CHK:
        (void)!__read_chk(ends.fd, &byte, 1, 1);
        break;
    case READV:
        (void)!readv(ends.fd, &part, 1);
        break;
    case RECV:
        (void)!recv(ends.fd, &byte, 1, 0);
        break;
    case RECV_CHK:
        (void)!__recv_chk(ends.fd, &byte, 1, 1, 0);
        break;
    case RECVFROM:
        (void)!recvfrom(ends.fd, &byte, 1, 0, NULL, NULL);
        break;
    case RECVFROM_CHK:
        (void)!__recvfrom_chk(ends.fd, &byte, 1, 1, 0, NULL, NULL);
        break;
    case RECVMSG:
        (void)!recvmsg(ends.fd, &message.msg_hdr, 0);
        break;
    case RECVMMSG:
        (void)!recvmmsg(ends.fd, &message, 1, 0, NULL);
        break;
    case WRITE:
        (void)!write(ends.fd, &byte, 1);
        break;
    case WRITEV:
        (void)!writev(ends.fd, &part, 1);
        break;
    case SEND:
        (void)!send(ends.fd, &byte, 1, 0);
        break;
    case SENDTO:
        (void)!sendto(ends.fd, &byte, 1, 0, NULL, 0);
        break;
    case SENDMSG:
        (void)!sendmsg(ends.fd, &message.msg_hdr, 0);
        break;
    case SENDMMSG:
        (void)!sendmmsg(ends.fd, &message, 1, 0);
        break;
    }
    close(ends.fd);
    close(ends.other);
}

static void in_read(void)
{
    transfer(READ);
}
static void in_read_chk(void)
{
    transfer(READ_CHK);
}
static void in_readv(void)
{
    transfer(READV);
}
static void in_recv(void)
{
    transfer(RECV);
}
static void in_recv_chk(void)
{
    transfer(RECV_CHK);
}
static void in_recvfrom(void)
{
    transfer(RECVFROM);
}
static void in_recvfrom_chk(void)
{
    transfer(RECVFROM_CHK);
}
static void in_recvmsg(void)
{
    transfer(RECVMSG);
}
static void in_recvmmsg(void)
{
    transfer(RECVMMSG);
}
static void in_write(void)
{
    transfer(WRITE);
}
static void in_writev(void)
{
    transfer(WRITEV);
}
static void in_send(void)
{
    transfer(SEND);
}
static void in_sendto(void)
{
    transfer(SENDTO);
}
static void in_sendmsg(void)
{
    transfer(SENDMSG);
}
static void in_sendmmsg(void)
{
    transfer(SENDMMSG);
}

static void send_file(bool is_64)
{
    struct ends ends = make_ends();
    int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);

    if (is_64)
        (void)!sendfile64(ends.fd, file, NULL, 1);
    else
        (void)!sendfile(ends.fd, file, NULL, 1);
    close(file);
    close(ends.fd);
    close(ends.other);
}

static void in_sendfile(void)
{
    send_file(false);
}
static void in_sendfile64(void)
{
    send_file(true);
}

/* ---- names ---- */

static void in_getaddrinfo(void)
{
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST}, *found = NULL;

    if (getaddrinfo("127.0.0.1", NULL, &hints, &found) == 0)
        freeaddrinfo(found);
}

static const struct in_addr loopback = {.s_addr = 0x0100007f};
static struct hostent host, *found_host;
static char store[8192];
static int problem;

static void in_gethostbyname(void)
{
    (void)gethostbyname("127.0.0.1");
}
static void in_gethostbyname2(void)
{
    (void)gethostbyname2("127.0.0.1", AF_INET);
}

static void in_gethostbyname_r(void)
{
    (void)gethostbyname_r("127.0.0.1", &host, store, sizeof store, &found_host, &problem);
}

static void in_gethostbyname2_r(void)
{
    (void)gethostbyname2_r("127.0.0.1", AF_INET, &host, store, sizeof store, &found_host, &problem);
}

static void in_gethostbyaddr(void)
{
    (void)gethostbyaddr(&loopback, sizeof loopback, AF_INET);
}

static void in_gethostbyaddr_r(void)
{
    (void)gethostbyaddr_r(&loopback, sizeof loopback, AF_INET, &host, store, sizeof store,
                          &found_host, &problem);
}

static void in_getnameinfo(void)
{
    const struct sockaddr_in self = {.sin_family = AF_INET, .sin_addr = loopback};

    (void)!getnameinfo((const struct sockaddr *)&self, sizeof self, store, sizeof store, NULL, 0,
                       0);
}

/* ---- sleeps, and others ---- */

/* As long as the loop's own pause, which is meant. */
static void in_nanosleep(void)
{
    (void)nanosleep(&(struct timespec){.tv_nsec = 250000}, NULL);
}

static void in_clock_nanosleep(void)
{
    (void)clock_nanosleep(CLOCK_MONOTONIC, 0, &moment, NULL);
}
static void in_usleep(void)
{
    (void)usleep(1000);
}
static void in_sleep(void)
{
    (void)sleep(0);
}
static void in_waitpid(void)
{
    (void)waitpid(-1, NULL, 0);
}
static void in_system(void)
{
    (void)!system("true");
}

static void use_file(int (*call)(int))
{
    char path[] = "/tmp/weft-blocks-XXXXXX";
    int fd = mkostemp(path, O_CLOEXEC);

    (void)unlink(path);
    (void)call(fd);
    close(fd);
}

static int lock(int fd)
{
    return flock(fd, LOCK_EX);
}
static void in_fsync(void)
{
    use_file(fsync);
}
static void in_fdatasync(void)
{
    use_file(fdatasync);
}
static void in_flock(void)
{
    use_file(lock);
}

/* ---- the routes ---- */

static const struct {
    const char *how;
    void (*block)(void);
} ways[] = {
    {"epoll_wait", in_epoll_wait},

    {"epoll_pwait", in_epoll_pwait},
    {"epoll_pwait2", in_epoll_pwait2},
    {"poll", in_poll},
    {"ppoll", in_ppoll},
    {"__poll_chk", in_poll_chk},
    {"__ppoll_chk", in_ppoll_chk},
    {"select", in_select},
    {"pselect", in_pselect},
    {"connect", in_connect},
    {"accept", in_accept},
    {"accept4", in_accept4},
    {"read", in_read},
    {"__read_chk", in_read_chk},
    {"readv", in_readv},
    {"recv", in_recv},
    {"__recv_chk", in_recv_chk},
    {"recvfrom", in_recvfrom},
    {"__recvfrom_chk", in_recvfrom_chk},
    {"recvmsg", in_recvmsg},
    {"recvmmsg", in_recvmmsg},
    {"write", in_write},
    {"writev", in_writev},
    {"send", in_send},
    {"sendto", in_sendto},
    {"sendmsg", in_sendmsg},
    {"sendmmsg", in_sendmmsg},
    {"sendfile", in_sendfile},
    {"sendfile64", in_sendfile64},
    {"getaddrinfo", in_getaddrinfo},
    {"gethostbyname", in_gethostbyname},
    {"gethostbyname2", in_gethostbyname2},
    {"gethostbyname_r", in_gethostbyname_r},
    {"gethostbyname2_r", in_gethostbyname2_r},
    {"gethostbyaddr", in_gethostbyaddr},
    {"gethostbyaddr_r", in_gethostbyaddr_r},
    {"getnameinfo", in_getnameinfo},
    {"nanosleep", in_nanosleep},
    {"clock_nanosleep", in_clock_nanosleep},
    {"usleep", in_usleep},
    {"sleep", in_sleep},
    {"waitpid", in_waitpid},
    {"system", in_system},
    {"fsync", in_fsync},
    {"fdatasync", in_fdatasync},
    {"flock", in_flock},
    {"nested_epoll_wait", in_nested_epoll_wait}, /* last: it takes what is the loop's */
};

static weft_status list_ways(weft_ctx *ctx, void *self)
{
    weft_str all = weft_cstr("");

    (void)self;
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++)
        all = weft_fmt(ctx, "%s%s\n", all.ptr, ways[i].how);
    return weft_reply(ctx, 200, "text/plain", all);
}

static weft_status block(weft_ctx *ctx, void *self)
{
    weft_str how = weft_param(ctx, "how");

    (void)self;
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        if (!weft_equal(how, weft_cstr(ways[i].how)))
            continue;
        ways[i].block();
        return weft_reply_text(ctx, 200, "blocked\n");
    }
    return WEFT_E_NOT_FOUND;
}

static weft_status init(weft_host *host_of_us, void **self)
{
    (void)self;
    WEFT_TRY(weft_route(host_of_us, "GET", "/blocks", list_ways));
    return weft_route(host_of_us, "GET", "/blocks/:how", block);
}

WEFT_PLUGIN("blocks", "1.0", init, NULL, NULL);
