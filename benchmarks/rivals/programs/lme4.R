# lme4 with its own settings. Its model is what lFormula or glFormula and the deviance function make, its fit the
# optimisation and the fitted object, as lmer and glmer do them. Argument: the folder of this file.

suppressPackageStartupMessages(library(lme4))
source(file.path(commandArgs(trailingOnly = TRUE)[1], "stopwatch.R"))

family_of <- function(task) switch(task$family, poisson = poisson(), bernoulli = binomial())
formula_of <- function(task) as.formula(task$formula, globalenv())

whole <- function(data, task) {
  if (task$family == "gaussian") lmer(formula_of(task), data, REML = TRUE)
  else glmer(formula_of(task), data, family = family_of(task))
}

build <- function(data, task) {
  if (task$family == "gaussian") {
    parsed <- lFormula(formula_of(task), data, REML = TRUE)
    list(parsed = parsed, devfun = do.call(mkLmerDevfun, c(parsed, list(control = lmerControl()))))
  } else {
    parsed <- glFormula(formula_of(task), data, family = family_of(task))
    list(parsed = parsed, devfun = do.call(mkGlmerDevfun, c(parsed, list(control = glmerControl()))))
  }
}

fit <- function(built, task) {
  parsed <- built$parsed
  devfun <- built$devfun
  if (task$family == "gaussian") {
    control <- lmerControl()
    best <- optimizeLmer(
      devfun, optimizer = control$optimizer, restart_edge = control$restart_edge, boundary.tol = control$boundary.tol,
      control = control$optCtrl, calc.derivs = control$calc.derivs
    )
  } else {
    control <- glmerControl()
    best <- optimizeGlmer(devfun, optimizer = control$optimizer[[1]], control = control$optCtrl, nAGQ = 0)
    start <- list(theta = best$par)
    devfun <- updateGlmerDevfun(devfun, parsed$reTrms)
    best <- optimizeGlmer(
      devfun, optimizer = control$optimizer[[2]], restart_edge = control$restart_edge,
      boundary.tol = control$boundary.tol, control = control$optCtrl, start = start, nAGQ = 1, stage = 2,
      calc.derivs = TRUE
    )
  }
  mkMerMod(environment(devfun), best, parsed$reTrms, fr = parsed$fr)
}

told <- function(fit) {
  said <- unlist(fit@optinfo$conv$lme4$messages)
  list(
    version = as.character(packageVersion("lme4")), log_likelihood = as.numeric(logLik(fit)),
    converged = !any(grepl("failed|unable", said)), note = if (length(said)) substr(said[1], 1, 60) else ""
  )
}

refit_all <- function(fit, count, task) as.numeric(bootMer(fit, function(x) fixef(x)[[2]], nsim = count)$t)

measure(whole, told, build, fit, refit_all)
