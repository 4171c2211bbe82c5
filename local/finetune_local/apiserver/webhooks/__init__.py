"""Admission webhooks: ValidatingWebhookConfiguration and MutatingWebhookConfiguration objects, called as configured."""
