"""Autoscalers as other projects' files describe them, read as they are: HPA, KEDA, Knative, Ray Serve.

`read` tells the kinds apart; a file a kind has its fields, `node` the reading of a value with its path. `deployed` puts
what was read in its place.
"""

from serve.manifests.deployed import with_manifests as with_manifests
from serve.manifests.read import Imported as Imported
from serve.manifests.read import read as read
