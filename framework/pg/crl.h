/* pg/crl.h - is there a list of revoked certificates in a file?
 *
 * Loop:   no matter which thread; the file is read.
 * Memory: nothing is kept.
 */
#ifndef WEFT_PG_CRL_H
#define WEFT_PG_CRL_H

#include <stdbool.h>

/* Will libpq, which asks OpenSSL the same, take what is in that file for revocations? */
bool pg_crl_is_there(const char *path);

#endif
