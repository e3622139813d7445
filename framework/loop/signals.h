/* loop/signals.h - signals as events of the loop, through a signalfd. */
#ifndef WEFT_LOOP_SIGNALS_H
#define WEFT_LOOP_SIGNALS_H

#include "loop/loop.h"
#include <signal.h>

struct signals;

/* Runs for each signal that came, on the loop. `pid` is the sender, or the child for SIGCHLD. */
typedef void signals_fn(struct signals *signals, int number, int pid);

struct signals {
    struct io _io;    /* of the descriptor */
    int _fd;          /* signalfd; -1: stopped */
    signals_fn *_fn;  /* what runs */
    sigset_t _before; /* the thread's mask, put back by signals_stop() */
};

/* Blocks `set` in this thread, and reads it from the loop. Before other threads are started. */
void signals_start(struct loop *loop, struct signals *signals, const sigset_t *set, signals_fn *fn);

/* Puts the mask back. Stopped (zeroed with _fd -1) is fine. */
void signals_stop(struct signals *signals);

#endif
