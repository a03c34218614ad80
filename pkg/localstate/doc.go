// Package localstate keeps state in files of one directory: what a host remembers, and, for gantry
// on one machine without etcd, what its operator asked for.
//
//   - Memory is a supervisor.Memory: what labels of containers cannot hold, one small file per
//     component. Losing it loses no container and no traffic.
//   - Store is a supervisor.Store on one file, with the operator's side of it: SetDesired,
//     PutProject, PutSpec, Adopt, Status, Wait.
//   - Lock makes sure that one process at a time uses the directory.
//
// Typical use, by a process that holds the lock until it ends:
//
//	lock, err := localstate.Lock(dir)
//	memory, err := localstate.OpenMemory(dir, log)
//	store, err := localstate.OpenStore(dir, localstate.Options{Host: host, Log: log})
//
// # Durability
//
// A file is replaced by writing a temporary file beside it, fsync, rename, and fsync of the
// directory, so a crash leaves the old content or the new one. The content carries a format
// version and a checksum, and the previous version is kept beside it with the suffix .prev. A file
// that is torn or damaged is moved aside (.corrupt-TIME), with a warning, and the previous version
// counts; when that is damaged too, the content is lost, which is reported and stops nothing. A
// write that fails is returned as an error, leaves the old content, and can be repeated. A file of
// a format that only a newer gantryd knows is refused with ErrNewer and left untouched.
//
// Fields that this version does not know survive a rewrite of the file, as long as the thing they
// belong to is still the same: those of a record as a whole, of a container still in it, and those
// inside a value (a release, a failure, a desired state) that did not change. They go with a value
// that is replaced, because they said something about the old one.
//
// # Concurrency
//
// All methods of Memory and Store may be called at once. Saves of different components do not wait
// for each other; saves of one component happen one after another, and each is durable when its
// call returns. Writes to a Store happen one after another. Names, View, Cluster and Status answer
// from memory and never wait for the disk.
//
// The package does not guard against a second process by itself: take Lock first.
//
// It knows nothing of containers, hosts other than this one, or what the stored values mean.
package localstate
