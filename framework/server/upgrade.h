/* server/upgrade.h - another master, of the program as it is now, takes over from this one.
 *
 * What server/reload.c does by itself for a new generation, two masters do here in a conversation
 * (server/successor.h): first its workers accept, then ours hold, then commands come to it, and
 * after rollback_window we end. Until then the death of a worker or of the new master takes all of
 * it back.
 *
 * The master that leads:
 *
 *   IDLE ──▶ CLEARING ──▶ STARTING ──▶ TAKING ──▶ HANDING ──▶ HANDED ──▶ ends
 *     ▲                      └───────────┴───────────┴───────────┤ the other one failed
 *     └──────────────────────────────────────────────────────────┘
 *
 * The one that follows:
 *
 *   FOLLOWING ──▶ IDLE     tried, started, waited for GO, then for TAKE; or the other one is gone,
 *       │                  and this one goes on alone
 *       └──▶ ends          it failed, or was called off
 *
 * Loop:   of the master's.
 * Memory: the state is struct reload's.
 */
#ifndef WEFT_SERVER_UPGRADE_H
#define WEFT_SERVER_UPGRADE_H

#include "server/reload.h"

/* ---- the master that leads; told by reload.c ---- */

/* One was asked for, and nothing is under way. */
void upgrade_begin(struct reload *reload);

/* No older generation is left. */
void upgrade_start(struct reload *reload);

/* Our workers hold. */
void upgrade_on_held(struct reload *reload);

/* Something is asked of us that is the new master's to do. */
void upgrade_pass_on(struct reload *reload);

/* The new master's process has ended. */
void upgrade_reap(struct reload *reload, int status);

/* The host is about to stop: what was asked for is not begun any more, and an upgrade is neither
 * gone on with nor taken back, which would have the host live on. False: too late, but for
 * reload_stop(). */
bool upgrade_forget(struct reload *reload) __attribute__((warn_unused_result));

/* The host stops, in whatever state: nobody is queued any more where nobody else serves, and a new
 * master that does not serve yet is called off. */
void upgrade_stop(struct reload *reload);

/* ---- the master that follows ---- */

/* Before reload_begin(): `channel` leads to the other one, and our generation has `number`. */
void upgrade_follow(struct reload *reload, int channel, uint32_t number);

/* Tries reload->settings. */
void upgrade_try(struct reload *reload);

/* They were: `problem` is NULL where all is well; `warnings` are lines, or "". */
void upgrade_on_tried(struct reload *reload, const char *problem, const char *warnings);

/* Our workers are ready. */
void upgrade_on_ready(struct reload *reload);

/* Our generation cannot go on: the owner is told, and so is the other master while it is there. */
void upgrade_on_lost(struct reload *reload, const char *problem);

#endif
