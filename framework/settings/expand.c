/* settings/expand.c - ${VAR} in a value of an ini file. */
#include "settings/expand.h"
#include "base/check.h"
#include <stdio.h>
#include <stdlib.h>

enum { NAME_SIZE = 64 };

static enum err fail(enum err err, char problem[EXPAND_PROBLEM_SIZE], const char *text)
{
    snprintf(problem, EXPAND_PROBLEM_SIZE, "%s", text);
    return err;
}

static bool is_name_byte(char c, bool is_first)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
           (!is_first && c >= '0' && c <= '9');
}

/* Appends what `inside`, the text between the braces, stands for. */
static enum err expand_one(struct span inside, struct buf *out, char problem[EXPAND_PROBLEM_SIZE])
{
    const char *found;
    char name[NAME_SIZE];
    bool has_default;
    size_t len = 0;

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

enum err expand_value(struct span value, struct buf *out, char problem[EXPAND_PROBLEM_SIZE])
{
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
            return fail(ERR_SYNTAX, problem,
                        "a lone \"$\", expected ${NAME}, ${NAME:-default}, or $$ for a dollar");
        close = memchr(value.ptr, '}', value.len);
        if (close == NULL)
            return fail(ERR_SYNTAX, problem, "\"${\" without its end, expected a \"}\"");
        err =
            expand_one((struct span){value.ptr + 2, (size_t)(close - value.ptr) - 2}, out, problem);
        if (err != ERR_OK)
            return err;
        value.len -= (size_t)(close + 1 - value.ptr);
        value.ptr = close + 1;
    }
    return ERR_OK;
}
