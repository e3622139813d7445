/* pg/files.h - can the files that libpq is told of be read?
 *
 * Libpq takes most of those that it cannot read for none at all, and says nothing: without sslcrl a
 * revoked certificate is good, without sslrootcert `require` trusts anybody.
 * Loop:   no matter which thread; files are read.
 * Memory: nothing is kept.
 */
#ifndef WEFT_PG_FILES_H
#define WEFT_PG_FILES_H

#include "pg/parameters.h"

/* Each that is given, by this process as it is now; one that only has a default is not looked at.
 * False: `problem` says which cannot be read, by keyword and path, and why. */
bool pg_files_check(const struct pg_parameters *parameters, char problem[INI_PROBLEM_SIZE])
    __attribute__((warn_unused_result));

#endif
