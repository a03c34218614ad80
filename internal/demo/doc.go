// Command demo shows gantryd's main job on real containers: it builds a small web component in two
// versions from scratch images, starts the daemon with its embedded etcd, puts steady traffic on the
// component, rolls v1 to v2, and tells what the clients saw. Each gantryd command is printed as it is
// run, so that a reader learns the tool from it. It cleans up after itself and exits with 1 when a
// request failed.
package main
