/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "pipeline/args.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

/* Options of lt_call for every verb: refused with a message, or a command line that can be written down. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    json_t *options = json_loadb((const char *)data, bytes, 0, NULL);
    for (size_t i = 0; json_is_object(options) && lt_commands[i]; i++) {
        lt_err err = { 0 };
        lt_args *args = NULL;
        if (lt_args_create(&args, lt_commands[i], options, &err) != LT_OK) {
            if (args || err.code == LT_OK || err.message[0] == 0) abort();
            continue;
        }
        char *line = lt_args_command_line(args);
        if (!line) abort();
        lt_free(line);
        lt_args_destroy(args);
    }
    json_decref(options);
    return 0;
}
