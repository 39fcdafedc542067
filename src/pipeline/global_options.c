/* SPDX-License-Identifier: Apache-2.0 */
#include "pipeline/command.h"

const lt_option lt_global_options[] = {
    { "threads", LT_OPT_INT, NULL, 1, 1024, NULL, false, "N",
      "threads to compute with; default: what the machine or control group allows" },
    { "max-memory", LT_OPT_BYTES, NULL, 1 << 20, 0x1p62, NULL, false, "SIZE",
      "memory that may be used (512MiB, 4G); default: what the machine or control group allows" },
    { "isa", LT_OPT_STRING, NULL, 0, 0, "ref|avx2|avx512|amx|neon", false, NULL,
      "kernels to use; default: the best that this processor runs" },
    { "scratch", LT_OPT_PATH, NULL, 0, 0, NULL, false, "DIR",
      "folder for spill files; default: beside the output, and TMPDIR for verbs without one" },
    { "estimate", LT_OPT_FLAG, "false", 0, 0, NULL, false, NULL,
      "say time, memory and disk that the command would need, and do nothing else" },
    { "overwrite", LT_OPT_FLAG, "false", 0, 0, NULL, false, NULL, "replace an output that is there already" },
    { NULL, LT_OPT_STRING, NULL, 0, 0, NULL, false, NULL, NULL },
};
