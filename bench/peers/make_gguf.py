"""Writes a GGUF with every matrix widened to one type: make_gguf.py IN.gguf OUT.gguf f32|f16

All metadata is kept, so that llama.cpp runs the same weights in another storage type."""
import sys
import numpy as np
from gguf import GGUFReader, GGUFWriter, GGMLQuantizationType, GGUFValueType, dequantize

source, target, kind = sys.argv[1:4]
reader = GGUFReader(source)
arch = bytes(reader.fields["general.architecture"].parts[-1]).decode()
writer = GGUFWriter(target, arch)
for field in reader.fields.values():
    if field.name.startswith("GGUF.") or field.name in ("general.architecture", "general.file_type"):
        continue
    main, sub = field.types[0], (field.types[-1] if field.types[0] == GGUFValueType.ARRAY else None)
    writer.add_key_value(field.name, field.contents(), main, sub_type=sub)
writer.add_file_type(1 if kind == "f16" else 0)
for t in reader.tensors:
    data = dequantize(t.data, t.tensor_type).reshape([int(n) for n in reversed(t.shape)])
    if kind == "f16" and data.ndim == 2:
        data = data.astype(np.float16)
    writer.add_tensor(t.name, np.ascontiguousarray(data))
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
