/* Goal: no bytes are a header of the PROXY protocol in one piece and another in two, none leads
 * outside of them, and whoever is named has an address. */
#include "http/proxy_line.h"
#include "fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span bytes = {(const char *)data, size};
    struct addr client, part;
    char text[ADDR_TEXT_SIZE];
    size_t len, part_len;
    enum proxy_line found = proxy_line_parse(bytes, &len, &client);

    if (found == PROXY_LINE_DONE) {
        MUST(len <= size);
        MUST(client.len == 0 || client.storage.ss_family == AF_INET ||
             client.storage.ss_family == AF_INET6);
        (void)addr_format(&client, text);
    }
    for (bytes.len = 0; bytes.len < size && bytes.len < 300; bytes.len++) {
        enum proxy_line before = proxy_line_parse(bytes, &part_len, &part);
        MUST(before != PROXY_LINE_DONE || (found == PROXY_LINE_DONE && part_len == len));
        MUST(before != PROXY_LINE_BAD || found == PROXY_LINE_BAD);
    }
    return 0;
}
