// Package smallfile reads files that somebody else replaces while we run: certificates, keys, pages.
//
//	f := smallfile.New("/etc/tls/site.pem", 1<<20)
//	text, err := f.Read()
//	...
//	if f.Changed() { text, err = f.Read() }
//
// A change is seen by time, size and identity of the file behind the path, so that it does not matter
// whether the file was written over, renamed into place or reached by another link. A file that was
// changed a moment ago counts as changed once more, because its time may not tell two writes apart.
//
// A File belongs to one goroutine. The package watches nothing by itself and reads regular files only: a
// pipe would make the reader wait for a writer.
package smallfile
