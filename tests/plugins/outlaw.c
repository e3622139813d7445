/* outlaw.c - a plugin for the system tests that asks the kernel for what no handler needs:
 * GET /outlaw/HOW answers what came of it, "0" or the text of errno.
 *
 * HOW: fork, spawn, parent (a signal), packet (a raw socket), unshare, keys, back (root again),
 * open (a file that is root's), threads (which are fine), offload (fork on a helper thread), who
 * (ids), growN (N MiB that are kept), loop (fork a thousand times). */
#include "weft.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static char secret_path[512];

static long forked(void)
{
    pid_t pid = fork();

    if (pid == 0)
        _exit(0);
    return pid < 0 ? -1 : 0;
}

static long forked_often(void)
{
    for (int i = 0; i < 1000; i++)
        if (forked() == 0)
            return 0;
    return -1;
}

static long parent(void)
{
    return kill(getppid(), 0);
}

static long packet(void)
{
    return socket(17 /* AF_PACKET */, SOCK_RAW, 0);
}

static long unshared(void)
{
    return syscall(SYS_unshare, 0);
}

static long keys(void)
{
    return syscall(SYS_keyctl, 0L, 0L, 0L, 0L, 0L);
}

static long back(void)
{
    return setuid(0) != 0 && seteuid(0) != 0 && setgid(0) != 0 ? -1 : 0;
}

static long opened(void)
{
    return open(secret_path, O_RDONLY | O_CLOEXEC);
}

/* The C library has all signals blocked meanwhile. */
static long spawned(void)
{
    return system("true") == 0 ? 0 : -1;
}

static void *nothing(void *data)
{
    return data;
}

static long threads(void)
{
    pthread_t thread;
    int failed = pthread_create(&thread, NULL, nothing, NULL);

    if (failed == 0)
        (void)pthread_join(thread, NULL);
    errno = failed;
    return failed == 0 ? 0 : -1;
}

static weft_status work(void *data)
{
    long *outcome = data;

    *outcome = forked() == 0 ? 0 : errno;
    return WEFT_OK;
}

static const struct {
    const char *how;
    long (*act)(void);
} ways[] = {
    {"fork", forked},     {"loop", forked_often}, {"parent", parent}, {"packet", packet},
    {"keys", keys},       {"unshare", unshared},  {"back", back},     {"open", opened},
    {"threads", threads}, {"spawn", spawned},
};

static weft_status answer(weft_ctx *ctx, int error)
{
    return weft_reply_text(ctx, 200, error == 0 ? "0" : strerror(error));
}

static weft_status offload(weft_ctx *ctx)
{
    long *outcome = weft_alloc(ctx, sizeof *outcome);

    WEFT_TRY(weft_await(weft_offload(ctx, work, outcome)));
    return answer(ctx, (int)*outcome);
}

static weft_status who(weft_ctx *ctx)
{
    gid_t groups[64];
    char text[128];

    snprintf(text, sizeof text, "%d %d %d %d groups=%d nnp=%d dumpable=%d", (int)getuid(),
             (int)geteuid(), (int)getgid(), (int)getegid(), getgroups(64, groups),
             prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), prctl(PR_GET_DUMPABLE));
    return weft_reply_text(ctx, 200, text);
}

static weft_status grow(weft_ctx *ctx, const char *mib)
{
    size_t size = strtoul(mib, NULL, 10) << 20;
    char *kept = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (kept == MAP_FAILED)
        return WEFT_E_OVERLOAD;
    memset(kept, 1, size);
    return weft_reply_text(ctx, 200, kept[size / 2] == 1 ? "grown" : "odd");
}

static weft_status outlaw(weft_ctx *ctx, void *self)
{
    weft_str how = weft_param(ctx, "how");

    (void)self;
    if (weft_equal(how, weft_cstr("offload")))
        return offload(ctx);
    if (weft_equal(how, weft_cstr("who")))
        return who(ctx);
    if (how.len > 4 && memcmp(how.ptr, "grow", 4) == 0)
        return grow(ctx, how.ptr + 4);
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++)
        if (weft_equal(how, weft_cstr(ways[i].how)))
            return answer(ctx, ways[i].act() < 0 ? errno : 0);
    return WEFT_E_NOT_FOUND;
}

static weft_status init(weft_host *host, void **self)
{
    weft_str path;

    (void)self;
    WEFT_TRY(weft_setting(host, "secret", "", &path));
    if (path.len < sizeof secret_path)
        memcpy(secret_path, path.ptr, path.len + 1);
    return weft_route(host, "GET", "/outlaw/:how", outlaw);
}

WEFT_PLUGIN("outlaw", "1.0", init, NULL, NULL);
