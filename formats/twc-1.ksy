meta:
  id: twc
  title: TWC image, version 1
  file-extension: twc
  license: CC0-1.0
  ks-version: 0.9
  encoding: ASCII
  endian: be
doc: |
  The frame, header and metadata of a TWC image, a learned image codec. twc-1.md is the normative text; section
  numbers here are its sections. Kaitai Struct cannot check CRC-32s, nor decode the symbols in DATA, which needs a
  model file and the arithmetic of sections 6 and 7.
doc-ref: twc-1.md
seq:
  - id: magic
    contents: [0x89, "TWC", 0x0d, 0x0a, 0x1a, 0x0a]
    doc: Section 2.
  - id: major
    type: u1
    valid: 1
    doc: Every other major version is refused.
  - id: minor
    type: u1
    doc: Ignored by decoders.
  - id: head
    type: chunk
    doc: Must have the type HEAD.
  - id: chunks
    type: chunk
    repeat: until
    repeat-until: _.type == "TEND"
    doc: In any order, TEND last.
  - id: behind_the_end
    size-eos: true
    valid:
      expr: _.length == 0
    doc: Must be empty; a file with bytes behind TEND is corrupt.
types:
  chunk:
    doc: Section 2. Lower case in the first letter of the type means that a decoder may pass over the chunk.
    seq:
      - id: length
        type: u4
        doc: Bytes of the payload.
      - id: type
        type: str
        size: 4
        encoding: ASCII
      - id: payload
        size: length
        type:
          switch-on: type
          cases:
            '"HEAD"': head
            '"ALPH"': alpha
            '"iCCP"': packed
            '"eXIf"': packed
            '"xMPd"': packed
            '"tEXt"': packed
            '"TEND"': tend
        doc: |
          The bytes as they are for DATA, the coded symbols (section 7) or the AVIF stream (section 11), and for unknown
          types.
      - id: crc
        type: u4
        doc: CRC-32 of type and payload.
  head:
    doc: Section 3.1. May be longer in a later minor version; the rest is ignored.
    seq:
      - id: width
        type: u4
        valid:
          min: 1
          max: 0x1000000
        doc: Pixels.
      - id: height
        type: u4
        valid:
          min: 1
          max: 0x1000000
        doc: Pixels.
      - id: mode
        type: u1
        enum: mode
        doc: Section 4.1. A decoder refuses codes that it does not know as unsupported.
      - id: depth
        type: u1
        doc: Bits a sample. 1, 8 or 16, as the mode demands.
      - id: payload_kind
        type: u1
        enum: payload_kind
        doc: With avif, digest, arithmetic, coder, quality, transformed, transform and seed are 0.
      - id: model_digest
        size: 16
        doc: First 16 bytes of the SHA-256 of the model file.
      - id: arithmetic
        type: u1
        valid:
          expr: '_ == (payload_kind == payload_kind::avif ? 0 : 1)'
        doc: Section 6.
      - id: coder
        type: u1
        valid:
          expr: '_ == (payload_kind == payload_kind::avif ? 0 : 1)'
        doc: Section 7.
      - id: quality_thousandths
        type: u2
      - id: transformed
        type: u1
        valid:
          any-of: [0, 1]
      - id: transform
        type: u1
        enum: transform
        doc: Section 5.
      - id: seed
        type: u4
      - id: ways
        type: u1
        valid:
          min: 1
        doc: Encodings that the encoder tried.
      - id: symbols_crc
        type: u4
        doc: |
          CRC-32 of the integer symbols, z then y, as big-endian 16-bit integers (section 7.8); with avif, of the samples
          (11.3).
      - id: later
        size-eos: true
        doc: Empty in version 1.0.
    instances:
      quality:
        value: quality_thousandths / 1000.0
      has_alpha:
        value: mode == mode::la or mode == mode::rgba
  alpha:
    doc: Section 4.3.
    seq:
      - id: method
        type: u1
        enum: alpha_method
      - id: constant
        type: u1
        if: method == alpha_method::constant
        doc: The value of every sample.
      - id: png
        size-eos: true
        if: method == alpha_method::png
        doc: A restricted PNG datastream, 8 bits, greyscale.
  packed:
    doc: |
      Section 4.4. An ICC profile, EXIF as a TIFF structure, XMP, or text: keyword NUL value NUL keyword NUL value ..,
      all pairs in one tEXt. Each type occurs at most once.
    seq:
      - id: method
        type: u1
        enum: packing
      - id: unpacked_length
        type: u4
      - id: stored
        size-eos: true
        if: method == packing::stored
      - id: deflated
        size-eos: true
        process: zlib
        if: method == packing::zlib
        doc: Read unpacked_length, and check it, before this is inflated.
  tend:
    doc: Section 2.
    seq:
      - id: file_crc
        type: u4
        doc: CRC-32 of every byte before the TEND chunk.
enums:
  mode:
    0: bilevel
    1: l
    2: la
    3: rgb
    4: rgba
    5: i16
  payload_kind:
    0: latents
    1: avif
  transform:
    0: identity
    1: flip_turn
    2: grid_shift
    3: flip_turn_shift
    4: flip_turn_slack
  alpha_method:
    0: constant
    1: png
  packing:
    0: stored
    1: zlib
