/* base/error.c - the codes' texts and names, from the one table. */
#include "base/error.h"
#include "base/check.h"

#define ERR_TEXT(code, text) [code] = text,
#define ERR_NAME(code, text) [code] = #code,

static const char *const texts[ERR_COUNT] = {ERR_TABLE(ERR_TEXT)};
static const char *const names[ERR_COUNT] = {ERR_TABLE(ERR_NAME)};

const char *err_text(enum err err)
{
    CHECK((unsigned)err < ERR_COUNT);
    return texts[err];
}

const char *err_name(enum err err)
{
    CHECK((unsigned)err < ERR_COUNT);
    return names[err];
}
