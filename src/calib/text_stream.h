/* SPDX-License-Identifier: Apache-2.0 */
/* calib/text_stream.h - a text file piece by piece, gzip (RFC 1952) and zstd (RFC 8878) undone: files may be larger
 * than memory. Compression is known by its magic number; several members or frames in a row are one text. */
#ifndef LT_CALIB_TEXT_STREAM_H
#define LT_CALIB_TEXT_STREAM_H

#include "core/core.h"

typedef struct lt_text_stream lt_text_stream;
/* LT_EUNSUPPORTED: a Parquet file, saying how to convert it. */
lt_status lt_text_stream_open(lt_text_stream **out, const char *path, lt_err *err);
/* Fills buf with up to cap bytes; *n 0 is the end. Damaged or cut input is LT_EDATA naming the byte. */
lt_status lt_text_stream_read(lt_text_stream *s, char *buf, size_t cap, size_t *n, lt_err *err);
void lt_text_stream_close(lt_text_stream *s);

#endif
