// Package realtest updates real servers while real load generators use them: redis under
// redis-benchmark, nginx under wrk, behind the daemon as it ships.
//
// All four come from Debian's packages, by apt-get into a folder of their own: nothing is installed
// on the machine, and no registry is asked. An image is a server with the libraries it needs, alone.
// Packages and images are kept between runs, the first in .cache, the second on the Engine.
package realtest
