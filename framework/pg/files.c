/* pg/files.c - can the files that libpq is told of be read? */
#include "pg/files.h"
#include "pg/crl.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* What a keyword's value is the path of. */
enum kind { OF_FILE, OF_KEY, OF_REVOCATIONS, OF_FOLDER };

/* Why it cannot be read; NULL: it can. */
static const char *read_problem(const char *path, enum kind kind)
{
    struct stat found;

    if (stat(path, &found) != 0)
        return strerror(errno);
    if (S_ISDIR(found.st_mode) != (kind == OF_FOLDER))
        return kind == OF_FOLDER ? "it is no folder" : "it is a folder";
    if (access(path, kind == OF_FOLDER ? R_OK | X_OK : R_OK) != 0)
        return strerror(errno);
    if (kind == OF_REVOCATIONS && !pg_crl_is_there(path))
        return "there is no revocation list in it";
    return NULL;
}

bool pg_files_check(const struct pg_parameters *parameters, char problem[INI_PROBLEM_SIZE])
{
    static const struct {
        const char *keyword;
        enum kind kind;
    } files[] = {{"sslrootcert", OF_FILE}, {"sslcrl", OF_REVOCATIONS}, {"sslcrldir", OF_FOLDER},
                 {"sslcert", OF_FILE},     {"sslkey", OF_KEY},         {"passfile", OF_FILE}};

    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        const char *path = pg_parameters_file(parameters, files[i].keyword);
        const char *reason;

        if (path == NULL || (files[i].kind == OF_KEY && strchr(path, ':') != NULL))
            continue; /* "engine:key" is no path */
        reason = read_problem(path, files[i].kind);
        if (reason == NULL)
            continue;
        (void)snprintf(problem, INI_PROBLEM_SIZE, "%s: cannot read %.300s: %s", files[i].keyword,
                       path, reason);
        return false;
    }
    return true;
}
