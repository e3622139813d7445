/* server/desk.h - answers `weft status`, with what the workers show when they are asked.
 *
 * Loop:   of the master's.
 * Memory: embedded; who asks is the control socket's.
 */
#ifndef WEFT_SERVER_DESK_H
#define WEFT_SERVER_DESK_H

#include "server/fresh.h"
#include <stdint.h>

struct control;
struct control_asker;
struct reload;
struct status;
struct watch;

/* What a question may ask for. */
enum { DESK_JSON = 1, DESK_REQUESTS = 2, DESK_FORMS = 4 };

struct desk;

/* Those who wait for one form of answer. */
struct desk_form {
    struct fresh fresh; /* for the workers' answers */
    struct desk *desk;  /* whose */
    bool is_waiting;    /* somebody does */
};

/* Embed it. */
struct desk {
    struct fresh_desk *fresh;           /* the master's */
    struct watch *watch;                /* the same */
    struct control *control;            /* the same */
    uint32_t tickets;                   /* the first of DESK_FORMS numbers for control_wait() */
    const struct reload *reload;        /* the same: which generation serves */
    struct desk_form forms[DESK_FORMS]; /* by what was asked for */
};

/* Nobody has asked. `fresh`, `watch`, `control`, `tickets` and `reload` are set. */
void desk_init(struct desk *desk);

/* Nobody is answered any more. Zeroed is fine. */
void desk_deinit(struct desk *desk);

/* "status", with "--json" and "--requests" in `rest`. */
void desk_status(struct desk *desk, struct control_asker *asker, const char *rest);

#endif
