/* pg/pending.c - the one thing that this room asks OpenSSL; apart, since OpenSSL has an ERR_STATE
 * of its own. */
#include "pg/pending.h"
#include <openssl/ssl.h>

bool pg_has_pending(void *ssl)
{
    return ssl != NULL && SSL_pending(ssl) > 0;
}
