/* settings/expand.h - ${VAR} and ${file:/path} in a value of an ini file.
 *
 * Loop:   reads files, which may block; at start only.
 * Memory: the text is appended to the caller's buffer.
 * Limits: a file of 64 KiB.
 */
#ifndef WEFT_SETTINGS_EXPAND_H
#define WEFT_SETTINGS_EXPAND_H

#include "base/buf.h"
#include "base/error.h"

/* Room for what is wrong, with its NUL. */
enum { EXPAND_PROBLEM_SIZE = 384 };

/* Appends `value` to `out` with ${VAR} and ${VAR:-default} replaced from the environment,
 * ${file:PATH} by all of a file's text but the newline at its end, and $$ by a dollar. What comes
 * from there is not looked at again. A relative PATH begins in `folder`. On failure (ERR_NOT_FOUND:
 * no such variable or file, ERR_SYNTAX, ERR_TOO_BIG, ERR_IO) `problem` says what is wrong and what
 * was expected, without any value. */
enum err expand_value(struct span value, const char *folder, struct buf *out,
                      char problem[EXPAND_PROBLEM_SIZE]) __attribute__((warn_unused_result));

#endif
