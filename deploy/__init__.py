"""What stands around a cluster: an AWS account's part of it, and the manifests for Kubernetes."""
