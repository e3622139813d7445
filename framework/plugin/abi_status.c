/* plugin/abi_status.c - the host's errors and the ABI's statuses: one table. */
#include "base/check.h"
#include "plugin/inside.h"
#include <assert.h>

/* The status and its HTTP status for each error; the first error of a status is the one that it
 * stands for. What is none of a plugin's business is ours to mend: 500. */
static const struct {
    weft_status status;
    uint32_t code;
} table[] = {
    [ERR_OK] = {WEFT_OK, 200},
    [ERR_INVALID] = {WEFT_E_INVALID, 500},
    [ERR_STATE] = {WEFT_E_STATE, 500},
    [ERR_UNSUPPORTED] = {WEFT_E_UNSUPPORTED, 500},
    [ERR_IO] = {WEFT_E_INVALID, 500},
    [ERR_NOT_FOUND] = {WEFT_E_INVALID, 500},
    [ERR_EXISTS] = {WEFT_E_INVALID, 500},
    [ERR_TOO_BIG] = {WEFT_E_INVALID, 500},
    [ERR_SYNTAX] = {WEFT_E_INVALID, 500},
    [ERR_TIMED_OUT] = {WEFT_E_INVALID, 500},
    [ERR_CLOSED] = {WEFT_E_INVALID, 500},
    [ERR_RESET] = {WEFT_E_INVALID, 500},
    [ERR_UNREACHABLE] = {WEFT_E_INVALID, 500},
    [ERR_UNKNOWN_NAME] = {WEFT_E_INVALID, 500},
    [ERR_PROTOCOL] = {WEFT_E_INVALID, 500},
    [ERR_CANCELED] = {WEFT_E_CANCELED, 499},
    [ERR_DEADLINE] = {WEFT_E_DEADLINE, 504},
    [ERR_OVERLOAD] = {WEFT_E_OVERLOAD, 503},
    [ERR_DB_BUSY] = {WEFT_E_DB_BUSY, 503},
    [ERR_DB_DOWN] = {WEFT_E_DB_DOWN, 503},
    [ERR_DB] = {WEFT_E_DB, 500},
    [ERR_DB_CONSTRAINT] = {WEFT_E_DB_CONSTRAINT, 409},
    [ERR_DB_RETRY] = {WEFT_E_DB_RETRY, 503},
    [ERR_DB_VALUE] = {WEFT_E_DB_VALUE, 400},
    [ERR_UP_BUSY] = {WEFT_E_UP_BUSY, 503},
    [ERR_UP_CONNECT] = {WEFT_E_UP_CONNECT, 502},
    [ERR_UP_RESET] = {WEFT_E_UP_RESET, 502},
    [ERR_UP_TIMEOUT] = {WEFT_E_UP_TIMEOUT, 504},
    [ERR_UP_TOO_BIG] = {WEFT_E_UP_TOO_BIG, 502},
    [ERR_BAD_REQUEST] = {WEFT_E_BAD_REQUEST, 400},
    [ERR_NO_ROUTE] = {WEFT_E_NOT_FOUND, 404},
    [ERR_BODY_TOO_BIG] = {WEFT_E_TOO_BIG, 413},
    [ERR_BODY_SLOW] = {WEFT_E_TOO_SLOW, 408},
};
static_assert(sizeof table / sizeof table[0] == ERR_COUNT, "an error without a status");

weft_status abi_status(enum err err)
{
    CHECK(err < ERR_COUNT);
    return table[err].status;
}

/* ERR_COUNT: nobody knows it. */
static enum err find(weft_status status)
{
    enum err err = ERR_OK;

    while (err < ERR_COUNT && table[err].status != status)
        err++;
    return err;
}

enum err abi_err(weft_status status)
{
    enum err err = find(status);

    return err != ERR_COUNT ? err : ERR_INVALID;
}

uint32_t abi_code(weft_status status)
{
    enum err err = find(status);

    return err != ERR_COUNT && err != ERR_OK ? table[err].code : 500;
}

const char *abi_status_text(weft_status status)
{
    enum err err = find(status);

    if (status == WEFT_PENDING)
        return "pending";
    return err != ERR_COUNT ? err_text(err) : "a status that this host does not know";
}
