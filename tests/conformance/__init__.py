"""What GradCAM and LayerGradCam promise, asked of both the hosts' classes and ours, side by side: a
release of pytorch-grad-cam or Captum that changes it is seen here. `cases` says what differs."""
