"""Many pictures: which, what has become of them, and the engines that do the work.

names -> what there is to do; manifest -> what has been done; work -> one picture; local, on_ray -> many at once; run ->
all of it together. Nothing here imports torch but `work`, in the processes that do the work.
"""
