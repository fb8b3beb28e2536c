#!/usr/bin/env python3
"""sass_count.py OBJECT...: which instructions the machine code in objects of nvcc (-Xfatbin -no-compress) has, without NVIDIA's
disassembler: a line ARCH KERNEL HMMA LDSM LDGSTS, counts of tensor-core products, ldmatrix and asynchronous copies. An instruction
is 16 bytes from sm_70 on, its opcode the low 12 bits."""
import struct
import sys

OPCODES = {0x23C: 0, 0x83B: 1, 0xFAE: 2}


def sections(elf):
    """(name, bytes) of a cubin's sections."""
    table, size, count, names = struct.unpack_from("<Q10xHHH", elf, 0x28)[0], *struct.unpack_from("<HHH", elf, 0x3A)
    rows = [struct.unpack_from("<IIQQQQ", elf, table + i * size) for i in range(count)]
    text = rows[names][4]
    for name, kind, _, _, at, length in rows:
        end = elf.index(b"\0", text + name)
        yield elf[text + name:end].decode(), elf[at:at + length] if kind == 1 else b""


for path in sys.argv[1:]:
    data = open(path, "rb").read()
    at = data.find(b"\x7fELF\x02\x01\x01", 1)
    while at > 0:
        if struct.unpack_from("<H", data, at + 18)[0] == 190:  # EM_CUDA
            flags = struct.unpack_from("<I", data, at + 0x30)[0]
            arch = flags & 0xFF if data[at + 7] == 0x33 else flags >> 8 & 0xFFFF
            for name, code in sections(data[at:]):
                if not name.startswith(".text."):
                    continue
                found = [0, 0, 0]
                for low, in struct.iter_unpack("<Q8x", code[:len(code) // 16 * 16]):
                    if low & 0xFFF in OPCODES:
                        found[OPCODES[low & 0xFFF]] += 1
                print("sm_%d" % arch, name[6:], *found)
        at = data.find(b"\x7fELF\x02\x01\x01", at + 1)
