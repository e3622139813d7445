/* settings/expand.c - ${VAR} and ${file:/path} in a value of an ini file. */
#include "settings/expand.h"
#include "base/check.h"
#include "base/mem.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { NAME_SIZE = 64, FILE_BYTES_MAX = 64 << 10 };

#define FILE_PREFIX "file:"

static enum err fail(enum err err, char problem[EXPAND_PROBLEM_SIZE], const char *text)
{
    snprintf(problem, EXPAND_PROBLEM_SIZE, "%s", text);
    return err;
}

static enum err fail_file(enum err err, char problem[EXPAND_PROBLEM_SIZE], const char *path,
                          const char *text)
{
    snprintf(problem, EXPAND_PROBLEM_SIZE, "${file:%s}: %s", path, text);
    return err;
}

/* Reads all of a file into `text`, whose room is FILE_BYTES_MAX and one more; false: errno. */
static bool read_all(int fd, char *text, size_t *len)
{
    ssize_t count;

    *len = 0;
    do {
        count = read(fd, text + *len, FILE_BYTES_MAX + 1 - *len);
        if (count > 0)
            *len += (size_t)count;
    } while (count > 0 || (count < 0 && errno == EINTR));
    return count == 0;
}

/* Appends what stands in the file behind `fd`, without the newline at its end. */
static enum err append_file(int fd, const char *path, struct buf *out,
                            char problem[EXPAND_PROBLEM_SIZE])
{
    enum err err = ERR_OK;
    struct stat status;
    char *text;
    size_t len;

    if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode))
        return fail_file(ERR_IO, problem, path, "is no file, expected one that can be read");
    text = mem_alloc(FILE_BYTES_MAX + 1);
    if (!read_all(fd, text, &len))
        err = fail_file(ERR_IO, problem, path, strerror(errno));
    else if (len > FILE_BYTES_MAX)
        err = fail_file(ERR_TOO_BIG, problem, path, "is too long, expected at most 64 KiB");
    else if (memchr(text, '\0', len) != NULL)
        err = fail_file(ERR_SYNTAX, problem, path, "has a NUL byte, expected text");
    if (err == ERR_OK) {
        if (len > 0 && text[len - 1] == '\n')
            len--;
        if (len > 0 && text[len - 1] == '\r')
            len--;
        buf_append(out, (struct span){text, len});
    }
    explicit_bzero(text, FILE_BYTES_MAX + 1);
    mem_free(text);
    return err;
}

static enum err expand_file(struct span path, const char *folder, struct buf *out,
                            char problem[EXPAND_PROBLEM_SIZE])
{
    char *name =
        path.ptr[0] == '/' ? mem_copy(path) : mem_format("%s/%.*s", folder, SPAN_ARG(path));
    int fd = open(name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    int error = errno;
    char reason[128];
    enum err err;

    if (fd < 0) {
        snprintf(reason, sizeof reason, "%s, expected a file that can be read", strerror(error));
        err = fail_file(error == ENOENT ? ERR_NOT_FOUND : ERR_IO, problem, name, reason);
    } else {
        err = append_file(fd, name, out, problem);
        close(fd);
    }
    mem_free(name);
    return err;
}

/* Is it a file's, and not the default of a variable that is named `file`? */
static bool is_file(struct span inside)
{
    const size_t len = sizeof FILE_PREFIX - 1;

    return inside.len > len && memcmp(inside.ptr, FILE_PREFIX, len) == 0 && inside.ptr[len] != '-';
}

static bool is_name_byte(char c, bool is_first)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
           (!is_first && c >= '0' && c <= '9');
}

/* Appends what `inside`, the text between the braces, stands for. */
static enum err expand_one(struct span inside, const char *folder, struct buf *out,
                           char problem[EXPAND_PROBLEM_SIZE])
{
    const char *found;
    char name[NAME_SIZE];
    bool has_default;
    size_t len = 0;

    if (is_file(inside)) {
        const size_t prefix = sizeof FILE_PREFIX - 1;
        return expand_file((struct span){inside.ptr + prefix, inside.len - prefix}, folder, out,
                           problem);
    }
    while (len < inside.len && is_name_byte(inside.ptr[len], len == 0))
        len++;
    has_default = inside.len >= len + 2 && memcmp(inside.ptr + len, ":-", 2) == 0;
    if (len == 0 || len >= sizeof(name) || (len < inside.len && !has_default))
        return fail(ERR_SYNTAX, problem,
                    "a bad variable, expected ${NAME} or ${NAME:-default} with a name of letters, "
                    "digits and \"_\"");
    if (memchr(inside.ptr, '$', inside.len) != NULL)
        return fail(ERR_SYNTAX, problem, "a \"$\" in a variable's default, expected plain text");
    memcpy(name, inside.ptr, len);
    name[len] = '\0';
    found = getenv(name);
    if (has_default && (found == NULL || found[0] == '\0')) {
        buf_append(out, (struct span){inside.ptr + len + 2, inside.len - len - 2});
    } else if (found != NULL) {
        buf_append(out, span_of(found));
    } else {
        snprintf(problem, EXPAND_PROBLEM_SIZE,
                 "variable %s is not set, expected it in the environment, or ${%s:-default}", name,
                 name);
        return ERR_NOT_FOUND;
    }
    return ERR_OK;
}

enum err expand_value(struct span value, const char *folder, struct buf *out,
                      char problem[EXPAND_PROBLEM_SIZE])
{
    CHECK(folder != NULL);
    CHECK(out != NULL);
    CHECK(problem != NULL);
    while (value.len > 0) {
        const char *dollar = memchr(value.ptr, '$', value.len);
        size_t plain = dollar != NULL ? (size_t)(dollar - value.ptr) : value.len;
        const char *close;
        enum err err;

        buf_append(out, (struct span){value.ptr, plain});
        value = (struct span){value.ptr + plain, value.len - plain};
        if (value.len == 0)
            break;
        if (value.len >= 2 && value.ptr[1] == '$') {
            buf_append(out, SPAN("$"));
            value = (struct span){value.ptr + 2, value.len - 2};
            continue;
        }
        if (value.len < 2 || value.ptr[1] != '{')
            return fail(
                ERR_SYNTAX, problem,
                "a lone \"$\", expected ${NAME}, ${NAME:-default}, ${file:/path}, or $$ for a "
                "dollar");
        close = memchr(value.ptr, '}', value.len);
        if (close == NULL)
            return fail(ERR_SYNTAX, problem, "\"${\" without its end, expected a \"}\"");
        err = expand_one((struct span){value.ptr + 2, (size_t)(close - value.ptr) - 2}, folder, out,
                         problem);
        if (err != ERR_OK)
            return err;
        value.len -= (size_t)(close + 1 - value.ptr);
        value.ptr = close + 1;
    }
    return ERR_OK;
}
