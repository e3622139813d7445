/* bank.h - what the files of the plugin bank share. */
#ifndef BANK_H
#define BANK_H

/* The page of GET /bank: HTML, with a NUL behind it. */
extern const char bank_page[];

#endif
