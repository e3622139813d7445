/* http/intake.c - what reading a message takes: borrowed with its first byte, given back behind its
 * last.
 *
 * A connection that waits for its next request has none, and one that waits for answers has none
 * either: as many are in use as messages are half here. A parser between two messages is as good
 * as a new one, so the next connection takes it as it is.
 */
#include "base/mem.h"
#include "http/inside.h"

struct http_intake *http_intake_create(struct http_server *server)
{
    struct http_intake *intake = mem_alloc(sizeof(*intake));

    http_parser_init(&intake->parser, HTTP_PARSE_REQUESTS, server->head, &server->limits);
    return intake;
}

void http_intake_drop(struct http_conn *conn)
{
    mem_free(conn->intake);
    conn->intake = NULL;
}

void http_intakes_free(struct http_server *server)
{
    struct http_intake *intake;

    while ((intake = server->intakes) != NULL) {
        server->intakes = intake->_next;
        mem_free(intake);
    }
    server->intakes_count = 0;
}
