/* loop/signals.h - signals as events of the loop, through a signalfd.
 *
 * Loop:   of one loop, and one of these a process, started before other threads are.
 * Memory: embedded; owns its descriptor from signals_start() to signals_stop().
 */
#ifndef WEFT_LOOP_SIGNALS_H
#define WEFT_LOOP_SIGNALS_H

#include "loop/loop.h"
#include <signal.h>

struct signals;

/* Runs for each signal that came, on the loop. `pid` is the sender, or the child for SIGCHLD; 0
 * from the kernel. The kernel keeps one of a kind: one SIGCHLD may stand for several children. It
 * may stop the signals, but not free them. */
typedef void signals_fn(struct signals *signals, int number, int pid);

/* The signals that a process listens to. Zeroed with _fd -1: stopped. */
struct signals {
    struct io _io;    /* of the descriptor */
    int _fd;          /* signalfd; -1: stopped */
    signals_fn *_fn;  /* what runs */
    sigset_t _before; /* the thread's mask, put back by signals_stop() */
};

/* Blocks `set` in this thread, and those that it starts later, and reads it from the loop. Aborts
 * where the kernel gives no descriptor. */
void signals_start(struct loop *loop, struct signals *signals, const sigset_t *set, signals_fn *fn);

/* Puts the mask back; what has come and was not read takes its usual effect then. Stopped (zeroed
 * with _fd -1) is fine. */
void signals_stop(struct signals *signals);

/* In a forked child, beside loop_abandon(): lets go of the parent's descriptor and leaves the
 * parent's loop alone. The mask stays as it is. */
void signals_abandon(struct signals *signals);

#endif
