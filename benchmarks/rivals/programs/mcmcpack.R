# MCMCpack's hierarchical samplers: one grouping factor, chains one after the other. Normal priors of the
# coefficients as bayou's but for an intercept that is not at centred columns; its own inverse Wishart of the
# groups' covariance (df p + 1, scale from the data's) and inverse gamma of the residual variance, since it takes
# no other. Argument: the folder of this file.

importing <- system.time(suppressPackageStartupMessages(library(MCMCpack)))[["elapsed"]]
source(file.path(commandArgs(trailingOnly = TRUE)[1], "shared.R"))

# an observation's own effect is the over-dispersion that MCMCpack has in any case
own <- sapply(task$groups, function(group) group$levels == task$n)
overdispersed <- length(task$groups) > 1 && any(own)
group <- if (overdispersed) task$groups[[which(!own)[1]]] else task$groups[[1]]
p <- length(group$scales)
right <- as.formula(paste("y ~", paste(c("1", slopes), collapse = " + ")))
inner <- as.formula(paste("~", paste(c("1", group$slopes), collapse = " + ")))
data[[group$column]] <- as.character(data[[group$column]])
# with a response far from a variance of 1 its Gaussian sampler settles where sigma is thousands: a scaled one
unit <- if (task$family == "gaussian") sd(data$y) else 1
data$y <- data$y / unit
# bayou's intercept is N(level, w0) at the columns' means: the same said of the intercept at zero
centre <- task$centre[-1]
spread <- (task$widths / unit)^2
Vbeta <- diag(spread, length(spread))
if (length(slopes)) {
  Vbeta[1, 1] <- spread[1] + sum(centre^2 * spread[-1])
  Vbeta[1, -1] <- Vbeta[-1, 1] <- -centre * spread[-1]
}
given <- list(
  fixed = right, random = inner, group = group$column, data = data, burnin = task$warmup, mcmc = task$draws,
  thin = 1, verbose = 0, mubeta = c(task$level / unit, rep(0, length(slopes))), Vbeta = Vbeta, r = p + 1,
  R = diag((group$scales / unit / 10)^2, p),
  nu = 0.001, delta = 0.001
)
program <- if (task$family == "gaussian") MCMChregress else MCMChpoisson
drawn <- list()
took <- c(wall = 0, processor = 0)
for (chain in seq_len(task$chains)) {
  given$seed <- 100 * task$seed + chain
  given$beta.start <- 0
  one <- NULL
  took <- took + seconds(utils::capture.output(one <- do.call(program, given)$mcmc))
  values <- list(beta0 = one[, "beta.(Intercept)"])
  for (k in seq_along(slopes)) values[[paste0("beta", k)]] <- one[, paste0("beta.", slopes[k])]
  names_inner <- c("(Intercept)", group$slopes)
  covariance <- function(i, k) one[, sprintf("VCV.%s.%s", names_inner[i], names_inner[k])]
  for (i in seq_len(p)) values[[sprintf("sd_%s_%d", group$column, i - 1)]] <- sqrt(covariance(i, i))
  for (k in seq_len(p)) for (i in seq_len(k - 1)) {
    values[[sprintf("cor_%s_%d_%d", group$column, i - 1, k - 1)]] <-
      covariance(i, k) / sqrt(covariance(i, i) * covariance(k, k))
  }
  if (task$family == "gaussian") values$sigma <- sqrt(one[, "sigma2"])
  if (overdispersed) values[[sprintf("sd_%s_0", task$groups[[which(own)[1]]]$column)]] <- sqrt(one[, "sigma2"])
  scaled <- !grepl("^cor", names(values))
  values[scaled] <- lapply(values[scaled], function(x) unit * x)
  drawn[[chain]] <- do.call(cbind, lapply(values, as.numeric))
}
leave(drawn, importing, 0, took)
