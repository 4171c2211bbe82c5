"""CustomResourceDefinitions: from a CRD to a served kind."""
