/* http/introduce.c - who a client is, as proxies and balancers in front of this host say. */
#include "base/check.h"
#include "base/log.h"
#include "http/forwarded.h"
#include "http/inside.h"
#include "http/proxy_line.h"
#include "http/response.h"

enum { ID_MAX = 128 }; /* bytes of a request's id */

/* ---- a connection ---- */

static struct addr peer_of(const struct http_conn *conn)
{
    struct addr addr = {.len = conn->peer_len};

    memcpy(&addr.storage, conn->peer, conn->peer_len);
    return addr;
}

/* It has nothing to say to us, or we to it: whoever speaks HTTP here would be taken for another. */
static bool turn_away(struct http_conn *conn, const char *why)
{
    struct addr addr = peer_of(conn);
    char peer[ADDR_TEXT_SIZE];

    addr_format(&addr, peer);
    log_fields(LOG_INFO, LOG_FIELDS({"peer", span_of(peer)}),
               "http: a connection is closed: %s (proxy_protocol = on)", why);
    buf_consume(&conn->stream.in, conn->stream.in.len);
    http_conn_stop_reading(conn);
    return false;
}

bool http_conn_introduce(struct http_conn *conn)
{
    const struct addr_ranges *trusted = &conn->server->trusted;
    struct addr client = peer_of(conn);
    size_t len;

    if (trusted->count > 0 && !addr_ranges_have(trusted, &client))
        return turn_away(conn, "it is not from a trusted proxy");
    switch (proxy_line_parse(buf_span(&conn->stream.in), &len, &client)) {
    case PROXY_LINE_MORE:
        if (conn->is_ended)
            http_conn_stop_reading(conn);
        return false;
    case PROXY_LINE_BAD:
        return turn_away(conn, "it does not begin with a header of the PROXY protocol");
    case PROXY_LINE_DONE:
        break;
    }
    buf_consume(&conn->stream.in, len);
    conn->must_introduce = false;
    conn->since_us = loop_now_us(conn->server->loop);
    if (client.len > 0) {
        CHECK(client.len <= sizeof(conn->peer));
        conn->peer_len = (unsigned char)client.len;
        memcpy(conn->peer, &client.storage, client.len);
    }
    return true;
}

/* ---- a request ---- */

/* It goes into logs and fields: letters, digits and what ids are written with. */
static bool is_id(struct span text)
{
    for (size_t i = 0; i < text.len; i++) {
        char byte = text.ptr[i];

        if (!(byte >= 'a' && byte <= 'z') && !(byte >= 'A' && byte <= 'Z') &&
            !(byte >= '0' && byte <= '9') && memchr("-_.:=/+@", byte, 8) == NULL)
            return false;
    }
    return text.len > 0 && text.len <= ID_MAX;
}

void http_request_introduce(struct http_request *request)
{
    const struct http_server *server = request->server;
    const struct http_options *options = server->options;
    struct addr *client;
    struct span id;

    if (!addr_ranges_have(&server->trusted, request->peer))
        return;
    if (options->request_id[0] != '\0') {
        id = http_field_get(&request->fields, span_of(options->request_id));
        if (is_id(id))
            request->given_id = id;
    }
    client = arena_alloc(&request->scope->arena, sizeof(*client));
    *client = http_forwarded_client(&request->fields, (enum http_forwarding)options->client_address,
                                    &server->trusted, request->peer);
    request->peer = client;
}

void http_reply_introduce(struct http_request *request)
{
    const struct http_options *options = request->server->options;
    struct http_fields fields = {request->reply_fields, request->reply_field_count};
    enum err err;

    if (http_field_get(&fields, span_of(options->request_id)).ptr != NULL)
        return;
    err = http_reply_field(request, span_of(options->request_id), http_request_name(request));
    CHECK(err == ERR_OK ||
          err == ERR_INVALID); /* INVALID: the settings name one of the host's own */
}
