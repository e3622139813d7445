/* server/control.h - the master's control socket: a command comes as one line, and lines and an
 * exit code go back. `weft reload` and the like are its other side (server/ask.h).
 *
 *   asker:  "reload\n"
 *   master: "weft 4711\n"   at once: who it is
 *           "+text\n"       for standard output, any number of them
 *           "!text\n"       for standard error, the same
 *           "~\n"           every second while the command is under way: the master is alive
 *           "=0\n"          the exit code; then it closes
 *
 * A command is answered in control_fn(), or later: it is given a ticket, and all that wait with one
 * ticket are answered together. An asker that goes is forgotten; nobody keeps a pointer to it.
 * Loop:   of the master's; never waits for an asker.
 * Memory: embedded; owns the socket, its file and the askers.
 * Limits: CONTROL_ASKERS_MAX askers, a line of CONTROL_LINE_MAX bytes within 5 s, 4 MiB of answer
 *         that was not taken, taken in part every 10 s: beyond these the asker is closed.
 */
#ifndef WEFT_SERVER_CONTROL_H
#define WEFT_SERVER_CONTROL_H

#include "base/error.h"
#include "base/list.h"
#include "loop/loop.h"
#include "loop/timer.h"
#include "settings/ini.h"
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <sys/types.h>

struct control;
struct control_asker;

enum { CONTROL_ASKERS_MAX = 32, CONTROL_LINE_MAX = 512 };

/* Runs for each command: `verb` is its first word, `rest` what follows, "" where nothing does. The
 * callee ends the asker (control_end()) or has it wait (control_wait()), now. */
typedef void control_fn(void *data, struct control_asker *asker, const char *verb,
                        const char *rest);

/* Zeroed with _fd -1: closed. */
struct control {
    struct loop *_loop;   /* the master's */
    struct io _io;        /* of the listening socket */
    struct timer _tick;   /* tells who waits that we live, closes who takes too long */
    struct list _askers;  /* struct control_asker */
    uint32_t _count;      /* of them */
    control_fn *_fn;      /* what runs */
    void *_data;          /* for it */
    char _path[PATH_MAX]; /* of the socket */
    dev_t _device;        /* of the socket's file, so that only our own is removed */
    ino_t _inode;         /* the same */
    int _fd;              /* listening; -1: closed */
};

/* Listens on a Unix socket at `path`, mode 0600; its folder must exist. What lies there is replaced
 * at one blow, unless a host answers there and `takes_over` is false: ERR_EXISTS. Other failures
 * are ERR_IO. `problem` says which path and why. */
enum err control_open(struct control *control, struct loop *loop, const char *path, bool takes_over,
                      char problem[INI_PROBLEM_SIZE]) __attribute__((warn_unused_result));

/* From here `fn` is told of commands; those that came before wait until then. */
void control_start(struct control *control, control_fn *fn, void *data);

/* Closes the askers, with what can be sent to them, and the socket, and removes its file where it
 * is still ours. Closed (_fd -1) is fine. */
void control_close(struct control *control);

/* In a forked child, beside loop_abandon(): closes the descriptors and touches nothing else. */
void control_abandon(struct control *control);

/* A line for the asker's standard output, or its standard error; without a newline in it. */
void control_say(struct control_asker *asker, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void control_warn(struct control_asker *asker, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* The answer is complete; `code` is the command's exit code. */
void control_end(struct control_asker *asker, int code);

/* The answer comes later, for all that wait with `ticket`, which is not 0. */
void control_wait(struct control_asker *asker, uint32_t ticket);

/* Runs `fn` for each asker that waits with `ticket`: control_say(), control_warn(), control_wait()
 * with another ticket, or control_end(). */
void control_each(struct control *control, uint32_t ticket,
                  void (*fn)(struct control_asker *asker, void *data), void *data);

/* A line for the standard error of all that wait with `ticket`; a newline in it begins another. */
void control_warn_all(struct control *control, uint32_t ticket, const char *text);

/* Ends all that wait with `ticket`, with a line first: for standard output where `code` is 0, else
 * for standard error. */
void control_end_all(struct control *control, uint32_t ticket, int code, const char *text);

#endif
