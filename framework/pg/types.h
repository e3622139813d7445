/* pg/types.h - types of PostgreSQL that this room knows, by their OIDs in pg_type, which are fixed
 * for ever.
 */
#ifndef WEFT_PG_TYPES_H
#define WEFT_PG_TYPES_H

enum {
    PG_OID_BOOL = 16,
    PG_OID_BYTEA = 17,
    PG_OID_CHAR = 18, /* "char" */
    PG_OID_NAME = 19,
    PG_OID_INT8 = 20,
    PG_OID_INT2 = 21,
    PG_OID_INT4 = 23,
    PG_OID_TEXT = 25,
    PG_OID_OID = 26,
    PG_OID_JSON = 114,
    PG_OID_XML = 142,
    PG_OID_FLOAT4 = 700,
    PG_OID_FLOAT8 = 701,
    PG_OID_UNKNOWN = 705,
    PG_OID_BOOLS = 1000,
    PG_OID_CHARS = 1002,
    PG_OID_NAMES = 1003,
    PG_OID_INT2S = 1005,
    PG_OID_INT4S = 1007,
    PG_OID_TEXTS = 1009,
    PG_OID_BPCHARS = 1014,
    PG_OID_VARCHARS = 1015,
    PG_OID_INT8S = 1016,
    PG_OID_FLOAT4S = 1021,
    PG_OID_FLOAT8S = 1022,
    PG_OID_OIDS = 1028,
    PG_OID_BPCHAR = 1042,
    PG_OID_VARCHAR = 1043,
    PG_OID_DATE = 1082,
    PG_OID_TIMESTAMP = 1114,
    PG_OID_TIMESTAMPTZ = 1184,
    PG_OID_NUMERIC = 1700,
    PG_OID_VOID = 2278,
    PG_OID_UUID = 2950,
    PG_OID_UUIDS = 2951,
    PG_OID_JSONB = 3802
};

#endif
