/* pg/crl.c - is there a list of revoked certificates in a file?
 *
 * Apart, as pg/pending.c is, since OpenSSL has an ERR_STATE of its own. */
#include "pg/crl.h"
#include <openssl/err.h>
#include <openssl/x509_vfy.h>

bool pg_crl_is_there(const char *path)
{
    X509_STORE *store = X509_STORE_new();
    bool is_there = store != NULL && X509_STORE_load_locations(store, path, NULL) == 1;

    X509_STORE_free(store);
    ERR_clear_error(); /* libpq may use this thread next, and looks for errors of its own */
    return is_there;
}
