/* Goal: what the host takes for a request is one by RFC 9112: a reference parser that was written
 * from its grammar takes it, too, with the same body, and sees the next one begin at the same byte;
 * and how the bytes are cut changes nothing. */
#include "fuzz/fuzz.h"
#include "fuzz/messages.h"
#include "fuzz/reference.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct messages whole, cut;
    struct reference wanted;
    size_t at = 0;

    messages_parse(data, size, size, HTTP_PARSE_REQUESTS, &whole);
    for (uint32_t i = 0; i < whole.count; i++) {
        MUST(reference_request(data + at, size - at, &wanted) == REFERENCE_COMPLETE);
        at += wanted.end;
        MUST(whole.at[i].end == at);
        MUST(whole.at[i].body_bytes == wanted.body_bytes);
        MUST(whole.at[i].body_hash == wanted.body_hash);
    }
    for (uint32_t part = 1; part < 4; part++) {
        size_t place = size > 0 ? (data[size - 1] + size * part / 4) % size : 0;
        messages_parse(data, size, place, HTTP_PARSE_REQUESTS, &cut);
        MUST(messages_equal(&whole, &cut));
    }
    return 0;
}
