/* io/tfevents.h - scalars as an event file that TensorBoard reads, appended to while a run goes on.
 *
 *   record: u64 length | u32 masked crc32c of these 8 bytes | bytes | u32 masked crc32c of the bytes   (little-endian)
 *   bytes:  Event { 1: double wall_time, 2: int64 step, 3: string file_version, 5: Summary { 1: Value { 1: string tag,
 *           2: float simple_value } } }
 * Sources: tensorflow/core/lib/io/record_writer.cc, core/util/event.proto, core/framework/summary.proto. The first
 * record holds file_version "brain.Event:2". TensorBoard takes files whose names hold ".tfevents.". */
#ifndef LT_IO_TFEVENTS_H
#define LT_IO_TFEVENTS_H

#include "core/core.h"

typedef struct lt_tfevents lt_tfevents;
/* Opens path for appending, or makes it (wall_time: seconds since 1970, of the first record). What is there is kept up
 * to the first record that is broken or of a step >= from: a resumed run writes those again. A file that does not begin
 * as an event file is LT_EDATA, and left alone. */
lt_status lt_tfevents_open(lt_tfevents **out, const char *path, int64_t from, double wall_time, lt_err *err);
/* One event; on disk, as far as the kernel is concerned, when it returns. LT_EIO: the file then ends with a whole
 * record, or is cut there at the next open. */
lt_status lt_tfevents_append(lt_tfevents *f, const char *tag, int64_t step, double wall_time, double value,
                             lt_err *err);
void lt_tfevents_close(lt_tfevents *f); /* NULL is fine */

/* Of the bytes of an event file: how many to keep (see open). 0: not an event file. */
size_t lt_tfevents_whole(const void *data, size_t bytes, int64_t from);

#endif
