/* lib/tls_server.c - the server's side of TLS for tests. OpenSSL has an ERR_STATE of its own: no
 * header that includes base/error.h may be included here. */
#include "lib/tls_server.h"
#include "base/clock.h"
#include "lib/loop_driver.h"
#include "lib/test.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *path(char text[512], const char *folder, const char *name, const char *end)
{
    snprintf(text, 512, "%s/%s.%s", folder, name, end);
    return text;
}

static int on_alpn(SSL *ssl, const unsigned char **chosen, unsigned char *len,
                   const unsigned char *offered, unsigned offered_len, void *data)
{
    const struct tls_server_options *options = ((struct tls_server *)data)->options;
    const unsigned char *wanted = (const unsigned char *)options->protocol;
    size_t wanted_len = strlen(options->protocol);

    (void)ssl;
    for (unsigned at = 0; !options->insists; at += 1u + offered[at]) {
        if (at >= offered_len)
            return SSL_TLSEXT_ERR_ALERT_FATAL;
        if (offered[at] == wanted_len && memcmp(offered + at + 1, wanted, wanted_len) == 0)
            break;
    }
    *chosen = wanted;
    *len = (unsigned char)wanted_len;
    return SSL_TLSEXT_ERR_OK;
}

void tls_server_init(struct tls_server *server, struct loop *loop, const char *folder,
                     const char *name, const struct tls_server_options *options)
{
    char text[512];
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());

    server->loop = loop;
    server->context = context;
    assert_int_equal(SSL_CTX_use_certificate_chain_file(context, path(text, folder, name, "crt")),
                     1);
    assert_int_equal(
        SSL_CTX_use_PrivateKey_file(context, path(text, folder, name, "key"), SSL_FILETYPE_PEM), 1);
    server->options = options;
    if (options->protocol != NULL)
        SSL_CTX_set_alpn_select_cb(context, on_alpn, server);
    if (options->is_12_only)
        SSL_CTX_set_max_proto_version(context, TLS1_2_VERSION);
    if (!options->wants_client)
        return;
    assert_int_equal(SSL_CTX_load_verify_file(context, path(text, folder, "ca", "crt")), 1);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    SSL_CTX_set_session_id_context(context, (const unsigned char *)"t", 1);
}

void tls_server_deinit(struct tls_server *server)
{
    SSL_CTX_free(server->context);
    server->context = NULL;
}

/* Must it be tried again, after a turn? */
static bool goes_on(const struct tls_server *server, SSL *ssl, int answer, uint64_t since_us)
{
    int error = SSL_get_error(ssl, answer);

    ERR_clear_error();
    if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE)
        return false;
    if (clock_monotonic_us() - since_us > DRIVER_SECONDS * 1000000ull)
        fail_msg("the client did nothing for %d seconds", DRIVER_SECONDS);
    loop_turn(server->loop, 1);
    (void)sched_yield();
    return true;
}

void *tls_server_accept(struct tls_server *server, int fd)
{
    uint64_t since_us = clock_monotonic_us();
    SSL *ssl = SSL_new(server->context);
    int answer;

    SSL_set_fd(ssl, fd);
    while ((answer = SSL_accept(ssl)) != 1) {
        if (goes_on(server, ssl, answer, since_us))
            continue;
        SSL_free(ssl);
        close(fd);
        return NULL;
    }
    return ssl;
}

void tls_server_request(struct tls_server *server, void *connection, char *text, size_t size)
{
    uint64_t since_us = clock_monotonic_us();
    size_t len = 0;

    text[0] = '\0';
    while (strstr(text, "\r\n\r\n") == NULL) {
        int got = SSL_read(connection, text + len, (int)(size - len - 1));

        if (got <= 0) {
            assert_true(goes_on(server, connection, got, since_us));
            continue;
        }
        len += (size_t)got;
        text[len] = '\0';
    }
}

void tls_server_send(struct tls_server *server, void *connection, const char *text, size_t size)
{
    uint64_t since_us = clock_monotonic_us();

    while (size > 0) {
        size_t part = size < 16384 ? size : 16384;
        int taken = SSL_write(connection, text, (int)part);

        if (taken <= 0) {
            assert_true(goes_on(server, connection, taken, since_us));
            continue;
        }
        text += taken;
        size -= (size_t)taken;
    }
}

bool tls_server_has_protocol(void *connection)
{
    const unsigned char *name;
    unsigned len;

    SSL_get0_alpn_selected(connection, &name, &len);
    return len > 0;
}

bool tls_server_is_resumed(void *connection)
{
    return SSL_session_reused(connection) == 1;
}

void tls_server_close(void *connection, bool goodbye)
{
    int fd = SSL_get_fd(connection);

    if (goodbye)
        (void)SSL_shutdown(connection);
    else
        SSL_set_quiet_shutdown(connection, 1);
    SSL_free(connection);
    ERR_clear_error();
    close(fd);
}

void tls_make_certificates(const char *folder)
{
    char command[1024];

    snprintf(command, sizeof command, WEFT_TEST_TOOLS "/certificates %s", folder);
    if (system(command) != 0)
        test_skip("openssl is not installed");
}
