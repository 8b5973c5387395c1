"""Pictures in, pictures out: files, pipes and Pillow images become arrays with their metadata, and the way back.

Callers import the module they need (`from twcodec.imaging.read import read_picture`), so that importing this
package loads neither numpy nor Pillow: `twc info` needs only `metadata`.

read      any source -> `Picture`           write     Pillow image -> a file's bytes, in any of `formats.FORMATS`
present   `Picture` -> Pillow image         alpha     alpha plane <-> payload of the container's ALPH chunk
metadata  ICC, EXIF, XMP, text <-> payloads of the container's metadata chunks
"""
