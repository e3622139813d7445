/* pg/pending.h - the one thing that this room asks OpenSSL.
 *
 * Loop:   of the session's loop.
 * Memory: nothing is kept.
 */
#ifndef WEFT_PG_PENDING_H
#define WEFT_PG_PENDING_H

#include <stdbool.h>

/* Does `ssl` (of PQgetssl(), NULL: no TLS) hold bytes that are decrypted and not yet read? No epoll
 * tells of these. */
bool pg_has_pending(void *ssl);

#endif
