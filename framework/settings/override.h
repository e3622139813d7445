/* settings/override.h - a setting from the command line: -o section.key=value.
 *
 * Memory: what is set becomes the file's.
 */
#ifndef WEFT_SETTINGS_OVERRIDE_H
#define WEFT_SETTINGS_OVERRIDE_H

#include "settings/ini.h"

/* Sets what `text`, such as "pg.main.host=/run/postgresql", says, whether the file has the section
 * and the key or not; of two for one key the later one stands. The value is read as in a file:
 * blanks around it are dropped, variables and files are replaced. The section is the longest one of
 * the file that fits, else all before the last dot. ERR_SYNTAX, or what expand_value() answers:
 * `problem` is "-o pg.main.host: ..., expected ...", without the value. */
enum err ini_override(struct ini_file *file, const char *text, char problem[INI_PROBLEM_SIZE])
    __attribute__((warn_unused_result));

#endif
