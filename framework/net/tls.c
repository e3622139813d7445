/* net/tls.c - TLS on a connected socket, as a client.
 *
 * OpenSSL reads and writes through a BIO of ours: its own would raise SIGPIPE. base/error.h must
 * stay out of here: OpenSSL has an ERR_STATE of its own.
 *
 * A peer's session comes after the handshake, with TLS 1.3 as a record of its own: it is found
 * while something else is read, and kept for the peer's next connection.
 */
#include "net/tls.h"
#include "base/check.h"
#include "base/mem.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

enum { NAME_SIZE = 256 };

struct tls_context {
    SSL_CTX *ssl;        /* what its connections are made from */
    BIO_METHOD *bio;     /* what they read and write through */
    bool trusts_anybody; /* as in the options */
};

struct tls {
    SSL *ssl;                      /* OpenSSL's */
    struct tls_sessions *sessions; /* of its peer */
    bool is_broken;                /* a fatal error: there is no goodbye */
    bool is_distrusted;            /* the peer's certificate was refused */
    const char *problem;           /* a constant; NULL: none */
};

/* The BIO: a socket, by its descriptor in the BIO's data. */

static int fd_of(BIO *bio)
{
    return (int)(intptr_t)BIO_get_data(bio);
}

static int bio_read(BIO *bio, char *bytes, int size)
{
    ssize_t got = recv(fd_of(bio), bytes, (size_t)size, 0);

    BIO_clear_retry_flags(bio);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        BIO_set_retry_read(bio);
    return (int)got;
}

static int bio_write(BIO *bio, const char *bytes, int size)
{
    ssize_t taken = send(fd_of(bio), bytes, (size_t)size, MSG_NOSIGNAL);

    BIO_clear_retry_flags(bio);
    if (taken < 0 && (errno == EAGAIN || errno == EINTR))
        BIO_set_retry_write(bio);
    return (int)taken;
}

static long bio_control(BIO *bio, int command, long number, void *data)
{
    (void)bio;
    (void)number;
    (void)data;
    return command == BIO_CTRL_FLUSH ? 1 : 0;
}

static int bio_create(BIO *bio)
{
    BIO_set_init(bio, 1);
    return 1;
}

static BIO_METHOD *make_bio_method(void)
{
    BIO_METHOD *method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "weft");

    CHECK(method != NULL);
    CHECK(BIO_meth_set_read(method, bio_read) == 1);
    CHECK(BIO_meth_set_write(method, bio_write) == 1);
    CHECK(BIO_meth_set_ctrl(method, bio_control) == 1);
    CHECK(BIO_meth_set_create(method, bio_create) == 1);
    return method;
}

/* What OpenSSL says about its oldest error; empties its queue. */
static const char *reason(void)
{
    unsigned long code = ERR_get_error();
    const char *text = NULL;

    ERR_clear_error();
    if (ERR_SYSTEM_ERROR(code))
        text = strerrordesc_np(ERR_GET_REASON(code));
    else if (code != 0)
        text = ERR_reason_error_string(code);
    return text != NULL ? text : "it cannot be read";
}

/* Sessions */

static int on_session(SSL *ssl, SSL_SESSION *session)
{
    struct tls *tls = SSL_get_app_data(ssl);
    struct tls_sessions *sessions = tls->sessions;

    if (sessions->_count == TLS_SESSIONS_MAX) {
        SSL_SESSION_free(sessions->_at[0]);
        memmove(&sessions->_at[0], &sessions->_at[1],
                (TLS_SESSIONS_MAX - 1) * sizeof sessions->_at[0]);
        sessions->_count--;
    }
    sessions->_at[sessions->_count++] = session;
    return 1; /* ours now */
}

void tls_sessions_clear(struct tls_sessions *sessions)
{
    while (sessions->_count > 0)
        SSL_SESSION_free(sessions->_at[--sessions->_count]);
}

static void offer_session(struct tls *tls)
{
    struct tls_sessions *sessions = tls->sessions;
    SSL_SESSION *session;

    if (sessions->_count == 0)
        return;
    session = sessions->_at[sessions->_count - 1];
    CHECK(SSL_set_session(tls->ssl, session) == 1);
    if (SSL_SESSION_get_protocol_version(session) < TLS1_3_VERSION)
        return;
    SSL_SESSION_free(session);
    sessions->_count--;
}

/* Contexts */

/* There is nobody to ask for a passphrase. */
static int no_passphrase(char *text, int size, int is_for_writing, void *data)
{
    (void)text;
    (void)size;
    (void)is_for_writing;
    (void)data;
    return 0;
}

static bool load_authorities(SSL_CTX *ssl, const struct tls_options *options, char *problem)
{
    bool is_good = options->ca_path[0] != '\0'
                       ? SSL_CTX_load_verify_file(ssl, options->ca_path) == 1
                       : SSL_CTX_set_default_verify_paths(ssl) == 1;

    if (!is_good)
        snprintf(problem, TLS_PROBLEM_SIZE, "%.200s: no certificates of authorities: %s",
                 options->ca_path[0] != '\0' ? options->ca_path : "the system's store", reason());
    return is_good;
}

static bool load_own(SSL_CTX *ssl, const struct tls_options *options, char *problem)
{
    const char *key_path = options->key_path[0] != '\0' ? options->key_path : options->cert_path;

    if (options->cert_path[0] == '\0')
        return true;
    if (SSL_CTX_use_certificate_chain_file(ssl, options->cert_path) != 1) {
        snprintf(problem, TLS_PROBLEM_SIZE, "%.200s: no certificate: %s", options->cert_path,
                 reason());
        return false;
    }
    if (SSL_CTX_use_PrivateKey_file(ssl, key_path, SSL_FILETYPE_PEM) != 1) {
        snprintf(problem, TLS_PROBLEM_SIZE, "%.200s: no key that fits the certificate: %s",
                 key_path, reason());
        return false;
    }
    return true;
}

static void set_up(SSL_CTX *ssl, const struct tls_options *options)
{
    static const unsigned char protocols[] = "\x08http/1.1";

    CHECK(SSL_CTX_set_min_proto_version(ssl, options->is_13_only ? TLS1_3_VERSION
                                                                 : TLS1_2_VERSION) == 1);
    CHECK(SSL_CTX_set_alpn_protos(ssl, protocols, sizeof protocols - 1) == 0);
    SSL_CTX_set_options(ssl, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    SSL_CTX_set_mode(ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                              SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_verify(ssl, options->trusts_anybody ? SSL_VERIFY_NONE : SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(ssl, on_session);
    SSL_CTX_set_default_passwd_cb(ssl, no_passphrase);
}

struct tls_context *tls_context_create(const struct tls_options *options,
                                       char problem[TLS_PROBLEM_SIZE])
{
    struct tls_context *context = mem_alloc(sizeof *context);

    ERR_clear_error();
    context->ssl = SSL_CTX_new(TLS_client_method());
    CHECK(context->ssl != NULL);
    context->bio = make_bio_method();
    context->trusts_anybody = options->trusts_anybody;
    set_up(context->ssl, options);
    if ((options->trusts_anybody || load_authorities(context->ssl, options, problem)) &&
        load_own(context->ssl, options, problem))
        return context;
    tls_context_destroy(context);
    return NULL;
}

void tls_context_destroy(struct tls_context *context)
{
    if (context == NULL)
        return;
    SSL_CTX_free(context->ssl);
    BIO_meth_free(context->bio);
    mem_free(context);
}

/* Connections */

/* Whom the certificate must name; an address is no name to be sent. */
static void expect(const struct tls_context *context, SSL *ssl, struct span host)
{
    char name[NAME_SIZE];
    unsigned char address[sizeof(struct in6_addr)];

    CHECK(host.len < sizeof name);
    memcpy(name, host.ptr, host.len);
    name[host.len] = '\0';
    if (inet_pton(AF_INET, name, address) == 1 || inet_pton(AF_INET6, name, address) == 1) {
        if (!context->trusts_anybody)
            CHECK(X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), name) == 1);
        return;
    }
    CHECK(SSL_set_tlsext_host_name(ssl, name) == 1);
    if (context->trusts_anybody)
        return;
    SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    CHECK(SSL_set1_host(ssl, name) == 1);
}

struct tls *tls_create(struct tls_context *context, int fd, struct span name,
                       struct tls_sessions *sessions)
{
    struct tls *tls = mem_alloc(sizeof *tls);
    BIO *bio = BIO_new(context->bio);

    CHECK(bio != NULL);
    BIO_set_data(bio, (void *)(intptr_t)fd);
    tls->sessions = sessions;
    tls->ssl = SSL_new(context->ssl);
    CHECK(tls->ssl != NULL);
    SSL_set_bio(tls->ssl, bio, bio);
    SSL_set_app_data(tls->ssl, tls);
    SSL_set_connect_state(tls->ssl);
    expect(context, tls->ssl, name);
    offer_session(tls);
    return tls;
}

void tls_destroy(struct tls *tls)
{
    if (tls == NULL)
        return;
    if (!tls->is_broken && SSL_is_init_finished(tls->ssl)) {
        ERR_clear_error();
        (void)SSL_shutdown(tls->ssl); /* what the kernel does not take is not worth waiting for */
    }
    SSL_free(tls->ssl);
    ERR_clear_error();
    mem_free(tls);
}

static void note_problem(struct tls *tls)
{
    long verified = SSL_get_verify_result(tls->ssl);
    unsigned long code = ERR_peek_error();

    tls->is_broken = true;
    tls->is_distrusted = verified != X509_V_OK && code != 0 &&
                         ERR_GET_REASON(code) == SSL_R_CERTIFICATE_VERIFY_FAILED;
    if (tls->is_distrusted)
        tls->problem = X509_verify_cert_error_string(verified);
    else
        tls->problem = code != 0 ? reason() : "the connection broke";
    ERR_clear_error();
}

/* A server that chose another protocol would not understand us. */
static bool has_wrong_protocol(struct tls *tls)
{
    static const char wanted[] = "http/1.1";
    const unsigned char *name;
    unsigned len;

    SSL_get0_alpn_selected(tls->ssl, &name, &len);
    return len > 0 && (len != sizeof wanted - 1 || memcmp(name, wanted, len) != 0);
}

enum tls_step tls_handshake(struct tls *tls)
{
    int answer;

    ERR_clear_error();
    answer = SSL_do_handshake(tls->ssl);
    if (answer == 1) {
        if (!has_wrong_protocol(tls))
            return TLS_DONE;
        tls->problem = "it does not speak HTTP/1.1 (ALPN)";
        return TLS_FAILED;
    }
    switch (SSL_get_error(tls->ssl, answer)) {
    case SSL_ERROR_WANT_READ:
        return TLS_WANTS_READ;
    case SSL_ERROR_WANT_WRITE:
        return TLS_WANTS_WRITE;
    default:
        note_problem(tls);
        return TLS_FAILED;
    }
}

const char *tls_problem(const struct tls *tls)
{
    return tls->problem;
}

bool tls_is_distrusted(const struct tls *tls)
{
    return tls->is_distrusted;
}

/* The errno of an answer that is not positive; 0: the peer said goodbye. */
static int errno_of(struct tls *tls, int answer)
{
    int os_error = errno;

    switch (SSL_get_error(tls->ssl, answer)) {
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE:
        return EAGAIN;
    case SSL_ERROR_ZERO_RETURN:
        return 0;
    case SSL_ERROR_SYSCALL:
        note_problem(tls);
        return os_error == ETIMEDOUT ? ETIMEDOUT : ECONNRESET;
    default:
        note_problem(tls);
        return EPROTO;
    }
}

ssize_t tls_recv(struct tls *tls, void *bytes, size_t size)
{
    int got;

    ERR_clear_error();
    errno = 0;
    got = SSL_read(tls->ssl, bytes, size < INT32_MAX ? (int)size : INT32_MAX);
    if (got > 0)
        return got;
    errno = errno_of(tls, got);
    return errno == 0 ? 0 : -1;
}

ssize_t tls_send(struct tls *tls, const void *bytes, size_t size)
{
    int taken;

    ERR_clear_error();
    errno = 0;
    taken = SSL_write(tls->ssl, bytes, size < INT32_MAX ? (int)size : INT32_MAX);
    if (taken > 0)
        return taken;
    errno = errno_of(tls, taken);
    if (errno == 0)
        errno = EPIPE;
    return -1;
}

bool tls_has_unread(const struct tls *tls)
{
    return SSL_pending(tls->ssl) > 0;
}

bool tls_is_quiet(struct tls *tls)
{
    char byte;
    int got;

    ERR_clear_error();
    got = SSL_peek(tls->ssl, &byte, 1);
    return got <= 0 && errno_of(tls, got) == EAGAIN;
}
