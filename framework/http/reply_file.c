/* http/reply_file.c - an answer that is a file, or a part of one.
 *
 *   WAITING (for the answers before it) ──▶ SENDING ──▶ SENT
 *      └───────────────────────────────────────┴──▶ SENT     the connection went, or the file ended
 *
 * The descriptor is ours while it waits, the stream's while it is sent.
 */
#include "http/reply_file.h"
#include "base/check.h"
#include "http/inside.h"
#include "http/response.h"
#include <errno.h>
#include <unistd.h>

enum file_state { FILE_WAITING, FILE_SENDING, FILE_SENT };

/* Of one answer. */
struct http_file_reply {
    enum file_state state; /* see above */
    struct http_file file; /* as given */
    uint64_t begin;        /* of the bytes that the stream has sent, where the file begins */
};

static enum err refuse(const struct http_file *file, enum err err)
{
    (void)close(file->fd);
    return err;
}

/* All of it, or false. */
static bool read_whole(const struct http_file *file, char *bytes)
{
    size_t got = 0;

    while (got < file->length) {
        ssize_t more =
            pread(file->fd, bytes + got, (size_t)file->length - got, (off_t)(file->offset + got));

        if (more == 0 || (more < 0 && errno != EINTR))
            return false;
        got += more > 0 ? (size_t)more : 0;
    }
    return true;
}

static enum err reply_small(struct http_request *request, uint32_t code, struct span type,
                            const struct http_file *file)
{
    char *bytes = scope_alloc(request->scope, (size_t)file->length + 1);

    if (!request->is_head && !read_whole(file, bytes))
        return ERR_IO;
    return http_reply(request, code, type, (struct span){bytes, (size_t)file->length});
}

static enum err reply_large(struct http_request *request, uint32_t code, struct span type,
                            const struct http_file *file)
{
    bool is_sent = false;
    enum err err;

    request->_file = arena_alloc(&request->scope->arena, sizeof(*request->_file));
    *request->_file = (struct http_file_reply){.state = FILE_SENT, .file = *file};
    err = http_reply_begin(request, code, type, (int64_t)file->length);
    if (err == ERR_CLOSED || (err == ERR_OK && request->_has_no_body))
        err = http_reply_end(request);
    else
        is_sent = err == ERR_OK;
    if (!is_sent)
        return refuse(file, err);
    CHECK(request->reply == HTTP_REPLY_BEGUN);
    request->_file->state = FILE_WAITING;
    request->_reply_left = 0;
    request->reply = HTTP_REPLY_ENDED;
    http_pipeline_end(request, false);
    return ERR_OK;
}

enum err http_reply_file(struct http_request *request, uint32_t code, struct span type,
                         const struct http_file *file)
{
    CHECK_OBJ(request, HTTP_REQUEST_MAGIC);
    CHECK(file->fd >= 0);
    if (request->reply != HTTP_REPLY_NONE)
        return refuse(file, ERR_STATE);
    if (file->length > INT64_MAX || file->offset > INT64_MAX - file->length)
        return refuse(file, ERR_INVALID);
    if (file->length <= HTTP_FILE_COPY_MAX)
        return refuse(file, reply_small(request, code, type, file));
    return reply_large(request, code, type, file);
}

bool http_file_is_pending(const struct http_request *request)
{
    return request->_file != NULL && request->_file->state != FILE_SENT;
}

void http_file_send(struct http_request *request)
{
    struct http_file_reply *reply = request->_file;
    struct stream *stream = &request->conn->stream;

    if (reply->state != FILE_WAITING)
        return;
    reply->state = FILE_SENDING;
    reply->begin = stream->sent + stream_unsent(stream);
    stream_send_file(stream, reply->file.fd, reply->file.offset, reply->file.length);
    http_conn_arm_write(request->conn);
    scope_cancel(request->scope, SCOPE_REPLIED); /* the handler is done */
}

void http_file_count(struct http_request *request)
{
    struct http_file_reply *reply = request->_file;
    uint64_t sent = request->conn->stream.sent;

    if (reply == NULL || reply->state != FILE_SENDING)
        return;
    reply->state = FILE_SENT;
    if (sent > reply->begin) {
        request->_out_bytes += sent - reply->begin;
        request->reply_bytes += sent - reply->begin;
    }
}

void http_file_sent(struct http_request *request, enum err err)
{
    CHECK(request->_file != NULL);
    CHECK(request->_file->state == FILE_SENDING);
    http_file_count(request);
    if (err == ERR_OK)
        return;
    http_request_blame(request, err == ERR_NOT_FOUND
                                    ? "answers with a file that is shorter than it said"
                                    : "answers with a file that cannot be read");
    request->why = "file";
    request->must_close = true;
}

void http_file_stop(struct http_request *request)
{
    struct http_file_reply *reply = request->_file;

    if (reply != NULL && reply->state == FILE_WAITING)
        (void)close(reply->file.fd);
    if (reply != NULL)
        reply->state = FILE_SENT;
}
