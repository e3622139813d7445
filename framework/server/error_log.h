/* server/error_log.h - where the error log goes.
 *
 * A file takes the place of standard error, so that what libraries, sanitizers and plugins print
 * there is not lost, and so that opening it again moves master and workers alike.
 */
#ifndef WEFT_SERVER_ERROR_LOG_H
#define WEFT_SERVER_ERROR_LOG_H

#include "server/settings.h"

/* Opens, or opens again, the log that the settings name, and has base/log.h write to it. ERR_IO:
 * its file cannot be opened, errno says why; the log is as it was. */
enum err error_log_open(const struct settings *settings) __attribute__((warn_unused_result));

#endif
