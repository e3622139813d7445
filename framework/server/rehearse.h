/* server/rehearse.h - what a start alone does not show: are the databases there, and do they accept
 * the statements that plugins have declared?
 *
 * Loop:   turns the parts' own, in a process that serves nobody; at most a connect_timeout for each
 *         pool and each of its statements, the pools side by side.
 * Memory: plain values.
 */
#ifndef WEFT_SERVER_REHEARSE_H
#define WEFT_SERVER_REHEARSE_H

#include "base/error.h"
#include "settings/ini.h"
#include <stdio.h>

struct parts;

/* After parts_init(). A database that cannot be reached is a line in `warnings`. ERR_DB: a
 * statement is refused, and `problem` says which, where and why. */
enum err rehearse(struct parts *parts, FILE *warnings, char problem[INI_PROBLEM_SIZE])
    __attribute__((warn_unused_result));

#endif
