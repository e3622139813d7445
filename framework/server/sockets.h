/* server/sockets.h - the listening sockets of the host: a row for each address, in it one socket
 * for each slot.
 *
 * The master makes them and keeps them for as long as an address is wanted: closing one resets the
 * clients that are queued on it, and so the slots of a host never become fewer. Workers inherit all
 * of them. A reload adds rows and slots before it starts workers, and closes rows when the last
 * worker that accepts from them has gone.
 * Memory: embedded in the master; addresses are copied.
 */
#ifndef WEFT_SERVER_SOCKETS_H
#define WEFT_SERVER_SOCKETS_H

#include "base/buf.h"
#include "base/error.h"
#include "server/activation.h"
#include "server/settings.h"
#include <stdint.h>

/* At most two generations live, each with SETTINGS_LISTEN_MAX addresses. */
enum { SOCKETS_ROWS_MAX = 2 * SETTINGS_LISTEN_MAX };

/* One address. */
struct sockets_row {
    struct addr addr;              /* bound */
    int fds[SETTINGS_WORKERS_MAX]; /* one for each slot */
    bool is_leaving;               /* sockets_deafen(): nobody new is queued */
    bool is_handed;                /* the service manager's: it stays open there, and so is never
                                    * deafened; the slots share it */
};

struct sockets {
    struct sockets_row *_rows[SOCKETS_ROWS_MAX]; /* row_count of them */
    uint32_t row_count;                          /* of _rows */
    struct activation *handed;                   /* sockets that are taken instead of making some;
                                                  * NULL: none */
    uint32_t slots;                              /* sockets in each row */
};

/* Makes none yet. */
void sockets_init(struct sockets *sockets);

/* Binds and listens at the addresses of `settings` where nobody does yet, for as many slots as
 * there are workers, or were. On failure nothing has changed, and `problem` names the address and
 * the reason. The first slot's are bound before SO_REUSEPORT is set, so that a second host is
 * refused unless it has reuseport = on itself. The backlog is set anew everywhere. */
enum err sockets_open(struct sockets *sockets, const struct settings *settings,
                      char problem[INI_PROBLEM_SIZE]) __attribute__((warn_unused_result));

/* The row of `addr`, or NULL. */
const struct sockets_row *sockets_row(const struct sockets *sockets, const struct addr *addr);

/* Copies the sockets that `settings` have and `others` (NULL: none) have not to `fds`, which has
 * room for SETTINGS_LISTEN_MAX * SETTINGS_WORKERS_MAX; returns how many. */
uint32_t sockets_only_of(const struct sockets *sockets, const struct settings *settings,
                         const struct settings *others, int *fds);

/* Nobody new is queued at addresses that `settings` (NULL: nobody) do not want; who is can be
 * accepted. Files of Unix sockets are removed. */
void sockets_deafen(struct sockets *sockets, const struct settings *settings);

/* Closes the rows that neither `settings` nor `others` (NULL: none) want. */
void sockets_prune(struct sockets *sockets, const struct settings *settings,
                   const struct settings *others);

/* In a worker: closes what is not of an address of `settings`, and touches nothing else. */
void sockets_close_others(const struct sockets *sockets, const struct settings *settings);

/* ---- for a master that follows another one: server/heritage.h ---- */

/* Appends a line for each row: "listen", or "handed" where it is_handed; its sockets; its
 * address. */
void sockets_describe(const struct sockets *sockets, struct buf *text);

/* Has all sockets outlive exec(), by `keep`, which must work. */
void sockets_keep(const struct sockets *sockets, bool (*keep)(int fd, bool is_kept));

/* Takes the sockets of such a line over; they will not outlive exec(), by `keep`.
 * False: it is no such line, or they are no listening sockets. */
bool sockets_inherit(struct sockets *sockets, const char *line, bool (*keep)(int fd, bool is_kept));

/* Closes what `settings` do not want and whoever left it to us goes on with; a bit for each row
 * that was closed, in the order in which they were inherited. */
uint32_t sockets_decline(struct sockets *sockets, const struct settings *settings);

/* As sockets_only_of(), for the rows whose bits are set. */
uint32_t sockets_of_rows(const struct sockets *sockets, uint32_t rows, int *fds);

/* As sockets_deafen(), for the rows whose bits are set. */
void sockets_deafen_rows(struct sockets *sockets, uint32_t rows);

/* ---- */

/* Closes all and frees the rows. What was not deafened goes on in whoever else has it open. Twice
 * is fine. */
void sockets_deinit(struct sockets *sockets);

#endif
