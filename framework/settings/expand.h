/* settings/expand.h - ${VAR} in a value of an ini file.
 *
 * Memory: the text is appended to the caller's buffer.
 */
#ifndef WEFT_SETTINGS_EXPAND_H
#define WEFT_SETTINGS_EXPAND_H

#include "base/buf.h"
#include "base/error.h"

/* Room for what is wrong, with its NUL. */
enum { EXPAND_PROBLEM_SIZE = 256 };

/* Appends `value` to `out` with ${VAR} and ${VAR:-default} replaced from the environment, and $$ by
 * a dollar. What comes from the environment is not looked at again. On ERR_NOT_FOUND or ERR_SYNTAX
 * `problem` says what is wrong and what was expected, without any value. */
enum err expand_value(struct span value, struct buf *out, char problem[EXPAND_PROBLEM_SIZE])
    __attribute__((warn_unused_result));

#endif
